//! A new password by MS-CHAP (RFC 2433 section 9, RFC 2759 section 7): it comes encrypted with the old NT hash, which must be known to
//! read it.
//!
//! Who sends it shows that it knows the old hash and the new password; only then it is a change at all. A list of users cannot
//! be written. In a directory it is changed by Password Modify (RFC 3062), as the daemon, and then the NT hash beside it. In a Windows
//! domain only the controllers know the old hash: what came is passed on to them by winbind.

use wire::radius::mschap;
use zeroize::Zeroizing;

use super::asking::{Asking, Cx, Next, Said, Why};
use super::directory::Stage;
use super::method::Offer;
use super::plan::{Check, Directory};
use super::service::{NO_TEXT, hex};
use crate::ask::{ChangeSpec, Final, Object, To, code, code_name};
use crate::password::nt;
use crate::radius::mschap as computed;

const NO_HASH: &str = "a password is changed by MS-CHAP only where it is stored in clear or its NT hash is";

/// A change's identifier, and the old hash as it is encrypted with the new one.
fn offered<'a>(offer: &Offer<'a>) -> Result<(u8, &'a [u8; 16]), Said> {
    match offer {
        Offer::Change { change, .. } if change.flags & 1 == 1 => Ok((change.ident, change.old_nt_hash)),
        Offer::Change2 { change, .. } => Ok((change.ident, change.encrypted_hash)),
        _ => Err(Said::NotFound(
            "the change is made with the LM hash only, which is not taken",
        )),
    }
}

/// The new password as it is encrypted with the old hash, from its pieces.
fn encrypted(ident: u8, cx: &Cx<'_>) -> Result<Zeroizing<[u8; mschap::ENCRYPTED_PASSWORD_BYTES]>, Said> {
    mschap::encrypted_password(cx.packet, mschap::NT_ENC_PW, ident)
        .map(Zeroizing::new)
        .ok_or(Said::No(Why::CannotChange))
}

impl Asking {
    /// Reads and verifies a change. Err: what it means that there is none.
    pub(super) fn changed(&self, old: Option<&nt::Hash>, cx: &Cx<'_>) -> Result<computed::NewPassword, Said> {
        let (ident, proof) = offered(cx.offer)?;
        let old = old.ok_or(Said::NotFound(NO_HASH))?;
        let whole = encrypted(ident, cx)?;
        let new = computed::new_password(&whole, old).ok_or(Said::No(Why::Wrong))?;
        let answered = cx.offer.answered(self.name(cx));
        let right = computed::proves_old(proof, old, &new.hash)
            && answered.is_some_and(|(challenge, found)| computed::check(&challenge, &new.hash, &found));
        if right { Ok(new) } else { Err(Said::No(Why::Wrong)) }
    }

    /// What winbind is asked for a change: it passes on what came, and a domain controller reads it.
    pub(super) fn winbind_change(&self, cx: &Cx<'_>) -> Result<Zeroizing<Vec<u8>>, Said> {
        let (ident, proof) = offered(cx.offer)?;
        let whole = encrypted(ident, cx)?;
        let mut call = Object::new("change-password");
        if !call.bytes("name", self.name(cx)) {
            return Err(Said::NotFound(NO_TEXT));
        }
        call.text("new_nt_encrypted", &Zeroizing::new(hex(&*whole)));
        call.text("old_nt_hash_encrypted", &hex(proof));
        Ok(call.end())
    }

    /// Has the directory change a password.
    pub(super) fn change(&mut self, old: Option<&nt::Hash>, cx: &Cx<'_>) -> Next {
        let new = match self.changed(old, cx) {
            Ok(new) => new,
            Err(said) => return Next::Said(said),
        };
        let dn = self.directory.dn.clone().unwrap_or_default();
        self.open = self.asks.password_modify(To::Shared, &dn, None, new.text.as_bytes());
        self.granted = cx.offer.granted(
            self.name(cx),
            &new.hash.hashed(),
            computed::lm_hash(new.text.as_bytes()),
        );
        self.directory.nt = self.directory.has_nt.then_some(new.hash);
        self.directory.stage = Stage::Changing;
        Next::Wait
    }

    /// The directory has said what became of it.
    pub(super) fn change_told(&mut self, directory: &Directory, end: &Final<'_>, cx: &Cx<'_>) -> Next {
        match end.code {
            code::SUCCESS => {}
            code::CONSTRAINT_VIOLATION
            | code::UNWILLING_TO_PERFORM
            | code::INSUFFICIENT_ACCESS_RIGHTS
            | code::INVALID_CREDENTIALS
            | code::NO_SUCH_OBJECT
            | code::PROTOCOL_ERROR
            | code::CONFIDENTIALITY_REQUIRED
            | code::STRONGER_AUTH_REQUIRED => {
                self.granted = None;
                let told = String::from_utf8_lossy(end.diagnostic);
                self.note(|| format!("the password is not changed: {} {told}", code_name(end.code)));
                // What a policy says is for the user; other reasons are for whoever runs the server.
                if end.code == code::CONSTRAINT_VIOLATION && !told.is_empty() {
                    self.message = Some(told.into());
                }
                return Next::Said(Said::No(Why::CannotChange));
            }
            _ => {
                self.granted = None;
                return Next::Said(Said::Nothing("the change was not answered"));
            }
        }
        let (
            Some(hash),
            Check::Fetch {
                nt: Some(attribute), ..
            },
        ) = (self.directory.nt.take(), &directory.check)
        else {
            return self.directory_right(directory, cx);
        };
        let digits = hash
            .as_bytes()
            .iter()
            .fold(Zeroizing::new(String::with_capacity(32)), |mut out, octet| {
                use std::fmt::Write as _;
                // Writing into memory cannot fail.
                let _ = write!(out, "{octet:02X}");
                out
            });
        let values: [&[u8]; 1] = [digits.as_bytes()];
        let replace = ChangeSpec {
            operation: 2,
            name: attribute.as_bytes(),
            values: &values,
        };
        let dn = self.directory.dn.clone().unwrap_or_default();
        self.open = self.asks.modify(To::Shared, &dn, &[replace]);
        Next::Wait
    }
}
