//! The arguments of an event or acknowledgement that is sent: none, one, or several by position.

use serde::Serialize;
use serde_json::Value;

/// What can be sent as arguments: `&value` is one argument, a tuple or an array is several, `()` none.
///
/// ```
/// # use leveret::wire::socket_io::{Namespace, encode};
/// let mut out = Vec::new();
/// encode::event(&mut out, Namespace::ROOT, "hello", None, &("ada", 7)).unwrap();
/// assert_eq!(out, br#"2["hello","ada",7]"#);
/// ```
pub trait ToArgs {
    /// Writes each argument, in order.
    ///
    /// # Errors
    /// Of an argument that has no JSON form.
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error>;
}

/// Takes the arguments one by one, and writes them as the elements of a JSON array.
pub struct ArgsWriter<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl<'a> ArgsWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, is_first: bool) -> Self {
        Self { out, is_first }
    }

    /// # Errors
    /// The argument has no JSON form.
    pub fn arg(&mut self, arg: &(impl Serialize + ?Sized)) -> Result<(), serde_json::Error> {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
        serde_json::to_writer(&mut *self.out, arg)
    }
}

impl<T: Serialize + ?Sized> ToArgs for &T {
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        args.arg(*self)
    }
}

impl ToArgs for Value {
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        args.arg(self)
    }
}

impl ToArgs for String {
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        args.arg(self)
    }
}

impl<T: Serialize, const COUNT: usize> ToArgs for [T; COUNT] {
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        self.iter().try_for_each(|arg| args.arg(arg))
    }
}

impl<T: Serialize> ToArgs for [T] {
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        self.iter().try_for_each(|arg| args.arg(arg))
    }
}

impl ToArgs for () {
    fn write(&self, _: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($name:ident)+) => {
        impl<$($name: Serialize),+> ToArgs for ($($name,)+) {
            fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
                #[allow(non_snake_case, reason = "a type's name is its value's")]
                let ($($name,)+) = self;
                $(args.arg($name)?;)+
                Ok(())
            }
        }
    };
}

tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
