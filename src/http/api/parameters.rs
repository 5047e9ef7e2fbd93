//! Paths and queries, checked.

use std::ops::RangeInclusive;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use http::StatusCode;
use http::request::Parts;

use crate::gateway::Part;
use crate::http::Problem;
use crate::model::names::{NameError, QueueName, RoomId, UserId};

const LISTED_MAX: usize = 10_000;
const LISTED_DEFAULT: usize = 1_000;

/// The members of a query that nobody has asked for yet.
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<Vec<(String, String)>>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        match query {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "The query can't be read")),
        }
    }
}

impl Parameters {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1)
    }

    /// # Errors
    /// What is no whole number of `range`.
    pub(super) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, Problem> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (min, max) = (range.start(), range.end());
            Problem::field(name, &format!("'{text}' is no whole number from {min} to {max}"))
        })
    }

    /// # Errors
    /// What is neither `true` nor `false`, the default.
    pub(super) fn switch(&mut self, name: &str) -> Result<bool, Problem> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => {
                Err(Problem::field(name, &format!("'{text}' is neither 'true' nor 'false'")))
            }
        }
    }

    /// # Errors
    /// A parameter that does not exist, or is given twice.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(Problem::field(name, "there is no such parameter, or it is given twice"))
            }
        }
    }
}

/// A name that may stand in a path.
pub(super) trait PathName: Sized {
    /// The member of the route's pattern.
    const MEMBER: &'static str;

    fn read(text: &str) -> Result<Self, NameError>;
}

impl PathName for QueueName {
    const MEMBER: &'static str = "queue";

    fn read(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl PathName for RoomId {
    const MEMBER: &'static str = "room";

    fn read(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl PathName for UserId {
    const MEMBER: &'static str = "user";

    fn read(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// The queue, room or user that the path names.
pub(super) struct Of<T>(pub T);

impl<T: PathName, S: Send + Sync> FromRequestParts<S> for Of<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<Vec<(String, String)>>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Path(members) = path.map_err(|_| unreadable())?;
        let (_, text) =
            members.into_iter().find(|(member, _)| member == T::MEMBER).ok_or_else(unreadable)?;
        T::read(&text).map(Self).map_err(|error| Problem::field(T::MEMBER, &error.to_string()))
    }
}

/// Which part of a long list is asked for: `limit` entries behind the name `after`.
pub(super) struct Page {
    limit: usize,
    after: String,
}

impl Page {
    /// # Errors
    /// A limit that is none.
    pub(super) fn read(parameters: &mut Parameters) -> Result<Self, Problem> {
        let limit = parameters.number("limit", 1..=LISTED_MAX, LISTED_DEFAULT)?;
        Ok(Self { limit, after: parameters.text("after").unwrap_or_default() })
    }

    /// What has to be known to tell the page, and whether more follow.
    pub(super) fn part(&self) -> Part {
        Part { after: self.after.clone(), limit: self.limit + 1 }
    }

    /// The page of `all` in the order of their names, and whether more follow.
    pub(super) fn of<T>(&self, mut all: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, bool) {
        all.retain(|entry| name(entry) > self.after.as_str());
        all.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let more = all.len() > self.limit;
        all.truncate(self.limit);
        (all, more)
    }
}

/// The member of the path that is not the queue.
pub(super) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<Vec<(String, String)>>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Path(members) = path.map_err(|_| unreadable())?;
        let other = members.into_iter().find(|(member, _)| member != "queue");
        other.map(|(_, value)| Self(value)).ok_or_else(unreadable)
    }
}

fn unreadable() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "The path can't be read")
}
