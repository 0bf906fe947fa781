//! `sql`: named prepared statements on MySQL and MariaDB.
//!
//! Callers name a statement of the configuration and give its parameters; no SQL comes from outside. A call ends with
//! one of the statuses of [`message::Status`], which keep apart what must not be confused: nothing found, there already,
//! refused, not reached, and not known.
//!
//! [`settings`], [`value`] and [`message`] are pure; [`database`] is the one module that talks to the server.

pub mod database;
pub mod interrupt;
pub mod message;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod value;

use usherd_sdk::helper::{Error, Helper};

use database::Database;
use settings::Settings;

/// Serves calls until usherd says goodbye or has gone.
///
/// A database that cannot be reached, or a statement that cannot be prepared, is told in the log and to whoever calls;
/// it does not end the helper, because nothing would be better with the next one.
///
/// # Errors
/// The program was not started by usherd, or the socket to it failed.
pub fn serve(settings: Settings) -> Result<(), Error> {
    let mut database = Database::new(settings);
    interrupt::watch(database.running(), database.killer())?;
    let helper = Helper::connect()?;
    if let Err(wrong) = database.warm_up() {
        for what in wrong {
            eprintln!("{}: {what}", helper.service());
        }
    }
    helper.serve(concat!("sql/", env!("CARGO_PKG_VERSION")), |call| {
        Ok(database.answer(call.payload()))
    })
}
