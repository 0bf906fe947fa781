//! What came of a delivery.

use std::fmt;
use std::time::Duration;

/// What the sink has after a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Everything up to this number, this one included, is acknowledged.
    pub upto: u64,
}

/// A delivery, or a connection, that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// What is to be done next.
    pub failure: Failure,
    /// Events of the batch up to this number were acknowledged before it failed; none: not one.
    pub upto: Option<u64>,
    /// What happened, for a person: names the peer, and no secret.
    pub text: String,
}

/// See [`SinkError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Connect again and deliver what is not acknowledged again.
    Retry {
        /// The peer said when; else it is the runner's back-off.
        after: Option<Duration>,
    },
    /// The sink wants this one event not, and will want it no better the next time: a candidate for the dead letters.
    /// What comes after it has not been taken. The sink can still be used.
    Refused {
        /// Its number.
        seq: u64,
    },
    /// Nobody reads any more (a closed pipe on standard output): the feed stops, and nothing is wrong.
    Ended,
    /// Somebody else delivers this feed: another daemon has taken it over.
    Fenced,
    /// It cannot become right without a person: an unreadable key, a stream that was made for something else.
    /// Retrying is harmless, and of no use before something changes.
    Setting,
}

impl SinkError {
    /// Worth another attempt.
    pub fn retry(text: impl Into<String>) -> SinkError {
        SinkError::new(Failure::Retry { after: None }, text)
    }

    /// This event is not wanted.
    pub fn refused(seq: u64, text: impl Into<String>) -> SinkError {
        SinkError::new(Failure::Refused { seq }, text)
    }

    /// A person is asked.
    pub fn setting(text: impl Into<String>) -> SinkError {
        SinkError::new(Failure::Setting, text)
    }

    /// A TLS session that did not come about: for a person where a certificate is not trusted, or bears another name.
    pub fn tls(peer: &str, error: &(dyn std::error::Error + 'static)) -> SinkError {
        let text = format!("{peer}: TLS: {error}");
        if is_about_a_certificate(error) {
            SinkError::setting(text)
        } else {
            SinkError::retry(text)
        }
    }

    /// Of this kind, with nothing acknowledged.
    pub fn new(failure: Failure, text: impl Into<String>) -> SinkError {
        SinkError {
            failure,
            upto: None,
            text: text.into(),
        }
    }

    /// The same, after events up to this one were acknowledged.
    #[must_use]
    pub fn after(mut self, upto: Option<u64>) -> SinkError {
        self.upto = upto.filter(|upto| *upto > 0);
        self
    }
}

/// Whether it is, or comes from, the refusal of a certificate: the peer's here, or ours there.
pub(super) fn is_about_a_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::{AlertDescription as Alert, Error};
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<Error>() {
            Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => return true,
            Some(Error::AlertReceived(
                Alert::CertificateRequired | Alert::BadCertificate | Alert::UnknownCA | Alert::CertificateUnknown,
            )) => return true,
            _ => {}
        }
        // An error of input and output tells what it holds, and not that it comes from it.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    false
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SinkError {}
