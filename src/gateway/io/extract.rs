//! How a handler's parameters are taken from an event.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ack::Ack;
use super::socket::Socket;
use crate::wire::socket_io::attachment;

/// An event as a handler is given it. Made by the gateway.
pub struct Call<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) name: &'a str,
    pub(crate) args: &'a [&'a RawValue],
    pub(crate) attachments: &'a [Bytes],
    pub(crate) ack: Option<u64>,
    /// The next positional argument.
    pub(crate) next: usize,
}

/// An argument that is not what its handler takes.
#[derive(Debug, thiserror::Error)]
#[error("argument {number}: {source}")]
pub struct ArgError {
    /// Counted from 1.
    number: usize,
    source: serde_json::Error,
}

/// A parameter of a handler. A type that serde reads takes the next argument by position; [`Socket`],
/// [`Ack`], [`EventName`] and [`Attachments`] take none. The marker tells the two kinds apart, and is
/// always inferred.
pub trait FromCall<Kind>: Sized {
    /// # Errors
    /// [`ArgError`] when the argument is not what the parameter takes.
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError>;
}

/// Marks parameters that serde reads from an argument.
pub struct Positional(());

/// Marks parameters that come from the event itself.
pub struct Contextual(());

/// An argument that the client left out reads as null, so as `None` for an `Option`. Arguments that no
/// parameter takes are ignored, as JavaScript does. Binary data reads as
/// [`Binary`](crate::wire::socket_io::Binary); a [`serde_json::Value`] has no place for it and holds
/// `{"_placeholder":true,"num":n}` instead, the n-th of [`Attachments`].
impl<T: DeserializeOwned> FromCall<Positional> for T {
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError> {
        let index = call.next;
        call.next += 1;
        argument(call.args.get(index).copied(), index, call.attachments)
    }
}

impl FromCall<Contextual> for Socket {
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError> {
        Ok(call.socket.clone())
    }
}

impl FromCall<Contextual> for Ack {
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError> {
        Ok(Ack::new(call.socket.clone(), call.ack))
    }
}

/// The name of the event, for handlers of more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(pub String);

impl FromCall<Contextual> for EventName {
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError> {
        Ok(Self(call.name.to_owned()))
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The binary data of the event, in the order in which its arguments hold it.
#[derive(Debug, Clone, Default)]
pub struct Attachments(pub Vec<Bytes>);

impl FromCall<Contextual> for Attachments {
    fn from_call(call: &mut Call<'_>) -> Result<Self, ArgError> {
        Ok(Self(call.attachments.to_vec()))
    }
}

/// The argument at `index`; a missing one is null.
pub fn argument<T: DeserializeOwned>(
    arg: Option<&RawValue>,
    index: usize,
    attachments: &[Bytes],
) -> Result<T, ArgError> {
    let json = arg.map_or("null", RawValue::get);
    attachment::with(attachments, || serde_json::from_str(json))
        .map_err(|source| ArgError { number: index + 1, source })
}

/// What a client gave of itself. One that gave nothing gave an empty object, as in Node; where that is not
/// what is asked for, null.
pub fn auth<T: DeserializeOwned>(auth: Option<&RawValue>) -> Result<T, ArgError> {
    if auth.is_some() {
        return argument(auth, 0, &[]);
    }
    serde_json::from_str("{}").or_else(|source| {
        let empty = ArgError { number: 1, source };
        argument(None, 0, &[]).map_err(|_| empty)
    })
}

/// What a handler does with one event.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A function of up to eight parameters, each a [`FromCall`], with a future of no value. The marker is
/// always inferred.
pub trait Handler<Kinds>: Send + Sync + 'static {
    /// Takes the parameters and begins.
    ///
    /// # Errors
    /// [`ArgError`] when an argument is not what the function takes; then nothing was begun.
    fn call(&self, call: &mut Call<'_>) -> Result<Running, ArgError>;
}

macro_rules! handler {
    ($($parameter:ident $kind:ident),*) => {
        impl<Function, Done, $($parameter, $kind),*> Handler<($(($parameter, $kind),)*)> for Function
        where
            Function: Fn($($parameter),*) -> Done + Send + Sync + 'static,
            Done: Future<Output = ()> + Send + 'static,
            $($parameter: FromCall<$kind>,)*
        {
            #[allow(unused_variables, reason = "a handler may take nothing")]
            fn call(&self, call: &mut Call<'_>) -> Result<Running, ArgError> {
                Ok(Box::pin(self($(<$parameter as FromCall<$kind>>::from_call(call)?),*)))
            }
        }
    };
}

handler!();
handler!(A KA);
handler!(A KA, B KB);
handler!(A KA, B KB, C KC);
handler!(A KA, B KB, C KC, D KD);
handler!(A KA, B KB, C KC, D KD, E KE);
handler!(A KA, B KB, C KC, D KD, E KE, F KF);
handler!(A KA, B KB, C KC, D KD, E KE, F KF, G KG);
handler!(A KA, B KB, C KC, D KD, E KE, F KF, G KG, H KH);
