//! Writing rows: records are packed until a row is full, and what is left of a commit is divided where that
//! fills redb's pages better.

use super::row::{
    BODY_BYTES_MAX, Fragment, HEAD_BYTES_MAX, HEADER_BYTES, Head, ROW_BYTES_MAX, seal,
};

/// redb's pages are powers of two of 4 KiB. What one has beside a row: its header, the row's key, and where
/// the row ends.
const PAGE_OVERHEAD_BYTES: usize = 64;

/// The last row of a commit may be divided at about every so many bytes, if it takes a larger page than this.
const CUT_BYTES: usize = 4 * 1024;
pub(super) const DIVIDED_PAGE_BYTES_MIN: usize = 16 * 1024;

/// The page that a row takes.
pub(super) fn page_bytes(row_bytes: usize) -> usize {
    (row_bytes + PAGE_OVERHEAD_BYTES).next_multiple_of(4_096).next_power_of_two()
}

/// Packs records into rows, and hands out each row as soon as it is full.
pub struct RowWriter {
    rewritten: bool,
    last_position: u64,
    row: Vec<u8>,
    /// Where records of `row` begin, one about every [`CUT_BYTES`].
    cuts: Vec<usize>,
    record: Vec<u8>,
    payload: Vec<u8>,
}

impl Default for RowWriter {
    fn default() -> Self {
        Self {
            rewritten: false,
            last_position: 0,
            row: vec![0; HEADER_BYTES],
            cuts: Vec::new(),
            record: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl RowWriter {
    /// Begins the rows of a commit's batch, or of a slice of compaction; they say that `last_position`
    /// was given last.
    pub fn begin(&mut self, rewritten: bool, last_position: u64) {
        self.rewritten = rewritten;
        self.last_position = last_position;
        self.clear();
    }

    fn clear(&mut self) {
        self.row.truncate(HEADER_BYTES);
        self.cuts.clear();
    }

    /// Fills in the header of a row that is whole already.
    pub(super) fn seal(&self, row: &mut [u8]) {
        seal(row, Fragment::Whole, self.rewritten, self.last_position);
    }

    /// Takes the records of a row, which begin where `beginnings` says, as the first.
    pub(super) fn begin_with(&mut self, row: &[u8], beginnings: impl Iterator<Item = usize>) {
        self.clear();
        self.row.extend_from_slice(row.get(HEADER_BYTES..).unwrap_or_default());
        beginnings.for_each(|at| self.begin_record(at));
    }

    /// Notes that a record begins here.
    fn begin_record(&mut self, at: usize) {
        if at >= self.cuts.last().unwrap_or(&HEADER_BYTES) + CUT_BYTES {
            self.cuts.push(at);
        }
    }

    /// Adds a fact whose tag and then payload `encode` appends, and says how many bytes the tag has. How
    /// many bytes it took.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn fact<E>(
        &mut self,
        (position, kind, weight): (u64, u8, u32),
        encode: impl FnOnce(&mut Vec<u8>) -> u8,
        emit: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut content = std::mem::take(&mut self.payload);
        content.clear();
        let tag_bytes = encode(&mut content);
        // A payload of 4 GiB can't be: admission bounds what is uncommitted far below.
        content.truncate(u32::MAX as usize);
        let bytes = self.encoded_fact((position, kind, weight), tag_bytes, &content, emit);
        self.payload = content;
        bytes
    }

    /// As [`RowWriter::fact`], of which tag and payload are there already.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn encoded_fact<E>(
        &mut self,
        (position, kind, weight): (u64, u8, u32),
        tag_bytes: u8,
        content: &[u8],
        emit: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let payload_bytes = content.len().saturating_sub(usize::from(tag_bytes));
        let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        let head = Head::Fact { kind, position, weight, tag_bytes, payload_bytes };
        let before = self.row.len();
        if before - HEADER_BYTES + HEAD_BYTES_MAX + content.len() <= BODY_BYTES_MAX {
            self.begin_record(self.row.len());
            head.encode(&mut self.row);
            self.row.extend_from_slice(content);
            return Ok(self.row.len() - before);
        }
        self.record.clear();
        head.encode(&mut self.record);
        self.record.extend_from_slice(content);
        let bytes = self.record.len();
        self.add_large(emit)?;
        Ok(bytes)
    }

    /// Adds the end of a fact. How many bytes it took.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn end<E>(
        &mut self,
        position: u64,
        segment: u64,
        emit: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.record.clear();
        Head::End { position, segment }.encode(&mut self.record);
        let bytes = self.record.len();
        self.add_large(emit)?;
        Ok(bytes)
    }

    /// Adds `self.record`, in a new row if the current one has no room, in several if one is too few.
    fn add_large<E>(&mut self, emit: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.row.len() - HEADER_BYTES + self.record.len() > BODY_BYTES_MAX {
            self.flush(Fragment::Whole, emit)?;
        }
        if self.record.len() <= BODY_BYTES_MAX {
            self.begin_record(self.row.len());
            self.row.extend_from_slice(&self.record);
            return Ok(());
        }
        let record = std::mem::take(&mut self.record);
        let mut pieces = record.chunks(BODY_BYTES_MAX).peekable();
        let mut fragment = Fragment::First;
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                fragment = Fragment::Last;
            }
            self.row.extend_from_slice(piece);
            self.flush(fragment, emit)?;
            fragment = Fragment::Middle;
        }
        Ok(())
    }

    /// Hands out what is left: in several rows where one would leave much of its page empty.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn finish<E>(&mut self, emit: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut begins = 0;
        while let Some(cut) = self.cut(begins) {
            let row = self.row.get_mut(begins..cut).unwrap_or_default();
            seal(row, Fragment::Whole, self.rewritten, self.last_position);
            emit(row)?;
            // The next header lies over the end of what was handed out.
            begins = cut - HEADER_BYTES;
        }
        self.flush_from(begins, Fragment::Whole, emit)?;
        // One huge record must not hold its memory for ever.
        self.record.shrink_to(ROW_BYTES_MAX);
        self.payload.shrink_to(ROW_BYTES_MAX);
        Ok(())
    }

    /// Where to end the row that begins at `begins`, so that it and what follows take smaller pages than
    /// both in one row.
    fn cut(&self, begins: usize) -> Option<usize> {
        let bytes = self.row.len() - begins;
        let page = page_bytes(bytes);
        if page <= DIVIDED_PAGE_BYTES_MIN || bytes > page / 4 * 3 {
            return None;
        }
        let fits = |&&cut: &&usize| cut - begins <= page / 2 - PAGE_OVERHEAD_BYTES;
        let cut = *self.cuts.iter().skip_while(|&&cut| cut <= begins).take_while(fits).last()?;
        let rest = self.row.len() - cut + HEADER_BYTES;
        let is_divided = |bytes| {
            page_bytes(bytes) > DIVIDED_PAGE_BYTES_MIN && bytes <= page_bytes(bytes) / 4 * 3
        };
        let gains = page_bytes(cut - begins) + page_bytes(rest) < page || is_divided(rest);
        (cut - begins > page / 4 && gains).then_some(cut)
    }

    fn flush<E>(
        &mut self,
        fragment: Fragment,
        emit: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.flush_from(0, fragment, emit)
    }

    fn flush_from<E>(
        &mut self,
        begins: usize,
        fragment: Fragment,
        emit: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let row = self.row.get_mut(begins..).unwrap_or_default();
        if row.len() > HEADER_BYTES {
            seal(row, fragment, self.rewritten, self.last_position);
            emit(row)?;
        }
        self.clear();
        Ok(())
    }
}
