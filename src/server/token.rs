//! `leveret token`: a token for a user, also beside a running server.

use std::time::Duration;

use super::command::TokenArgs;
use super::layer::Layer;
use super::{Environment, Error, Secret, print_line, settings};
use crate::gateway::{Authenticator, Claims};
use crate::model::clock::{Clock, SystemClock};
use crate::model::names::UserId;

/// A token that outlives this is a password.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

pub fn run(arguments: TokenArgs, environment: Environment<'_>) -> Result<(), Error> {
    let flags = Layer {
        data_dir: arguments.data_dir,
        jwt_secret: arguments.jwt_secret,
        ..Layer::default()
    };
    let layer = Layer::gather(flags, arguments.config.as_ref(), environment)?;
    let user =
        UserId::new(arguments.user).map_err(|error| Error::Usage(format!("--user: {error}")))?;
    let ttl = ttl(&arguments.ttl).map_err(|reason| Error::Usage(format!("--ttl: {reason}")))?;
    let secret = secret(&layer)?;

    let claims = Claims {
        username: arguments.username.unwrap_or_else(|| user.as_str().to_owned()),
        user,
        rooms: arguments.rooms,
        expires_at_s: SystemClock.now_ms() / 1000 + ttl.as_secs(),
    };
    let authenticator = Authenticator::new(secret.as_bytes());
    let token = authenticator.mint(&claims)?;
    // Says now what every server would say later, such as that the username is too long.
    authenticator.verify(&token)?;
    print_line(&token)
}

fn secret(layer: &Layer) -> Result<Secret, Error> {
    if let Some(secret) = settings::secret(layer)? {
        return Ok(secret);
    }
    let folder = settings::data_dir(layer)?;
    Secret::of_folder(&folder)?.ok_or_else(|| {
        Error::Refused(format!(
            "no secret: {} holds none (a server without --jwt-secret makes it), and --jwt-secret is \
             not given",
            folder.display()
        ))
    })
}

fn ttl(text: &str) -> Result<Duration, String> {
    match settings::duration(text)? {
        ttl if ttl < Duration::from_secs(1) => Err(format!("'{text}' is shorter than a second")),
        ttl if ttl > TTL_MAX => Err(format!("'{text}' is longer than ten years")),
        ttl => Ok(ttl),
    }
}
