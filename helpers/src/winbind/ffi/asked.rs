//! Each question, put to the library.

use super::*;

impl Backend for Library {
    fn details(&mut self) -> Result<Details, Failure> {
        let context = self.context()?;
        let mut made = ptr::null_mut();
        // SAFETY: a live context; writes one pointer.
        let code = unsafe { (self.functions.interface_details)(context, &raw mut made) };
        let details = self.owned(made);
        self.check(code)?;
        let details = details.ok_or(Failure::Unreadable("no details"))?;
        let details = details.get();
        Ok(Details {
            separator: char::from(details.separator.to_ne_bytes()[0]),
            // SAFETY: null or a text that ends with zero, alive as long as `details`.
            domain: unsafe { optional_text(details.netbios_domain) }.unwrap_or_default(),
            // SAFETY: likewise.
            host: unsafe { optional_text(details.netbios_name) }.unwrap_or_default(),
        })
    }

    fn ping(&mut self) -> Result<(), Failure> {
        let context = self.context()?;
        // SAFETY: a live context.
        self.check(unsafe { (self.functions.ping)(context) })
    }

    fn ping_controller(&mut self, domain: &str) -> Result<String, Failure> {
        let context = self.context()?;
        let domain = bounded(domain, "domain")?;
        let (mut error, mut name) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: a live context, a text; writes two pointers, each null or allocated for us.
        let code = unsafe { (self.functions.ping_dc)(context, domain.as_ptr(), &raw mut error, &raw mut name) };
        let name = self.owned(name);
        if code != SUCCESS {
            return Err(self.logon_failure(code, error, None));
        }
        drop(self.owned(error));
        let name = name.and_then(|name| {
            // SAFETY: a text that ends with zero, alive as long as `name`.
            unsafe { optional_text(name.as_ptr()) }
        });
        Ok(name.unwrap_or_default())
    }

    fn user(&mut self, key: &UserKey) -> Result<User, Failure> {
        let context = self.context()?;
        let mut entry = ptr::null_mut();
        let code = match key {
            UserKey::Name(name) => {
                let name = bounded(name, "name")?;
                // SAFETY: a live context, a text; writes one pointer.
                unsafe { (self.functions.getpwnam)(context, name.as_ptr(), &raw mut entry) }
            }
            // SAFETY: a live context; writes one pointer.
            UserKey::Uid(uid) => unsafe { (self.functions.getpwuid)(context, *uid, &raw mut entry) },
            UserKey::Sid(sid) => {
                let mut sid = self.sid(sid)?;
                // SAFETY: a live context, a SID of ours; writes one pointer.
                unsafe { (self.functions.getpwsid)(context, &raw mut sid, &raw mut entry) }
            }
        };
        self.entry(code, entry, read_user)
    }

    fn group(&mut self, key: &GroupKey) -> Result<Group, Failure> {
        let context = self.context()?;
        let mut entry = ptr::null_mut();
        let code = match key {
            GroupKey::Name(name) => {
                let name = bounded(name, "name")?;
                // SAFETY: a live context, a text; writes one pointer.
                unsafe { (self.functions.getgrnam)(context, name.as_ptr(), &raw mut entry) }
            }
            // SAFETY: a live context; writes one pointer.
            GroupKey::Gid(gid) => unsafe { (self.functions.getgrgid)(context, *gid, &raw mut entry) },
        };
        self.entry(code, entry, read_group)
    }

    fn groups_of(&mut self, name: &str) -> Result<Vec<u32>, Failure> {
        let context = self.context()?;
        let name = bounded(name, "name")?;
        let (mut count, mut gids) = (0, ptr::null_mut());
        // SAFETY: a live context, a text; writes a number and a pointer.
        let code = unsafe { (self.functions.get_groups)(context, name.as_ptr(), &raw mut count, &raw mut gids) };
        let gids = self.owned(gids);
        self.check(code)?;
        // SAFETY: on success `count` numbers stand there, until `gids` is dropped.
        Ok(unsafe { slice(gids.as_ref(), count) }.to_vec())
    }

    fn begin(&mut self, listing: Listing) -> Result<(), Failure> {
        self.end();
        let context = Self::connect(&self.functions, &mut self.listing)?;
        self.listed = Some(listing);
        // SAFETY: a live context.
        let code = unsafe {
            match listing {
                Listing::Users => (self.functions.setpwent)(context),
                Listing::Groups => (self.functions.setgrent)(context),
            }
        };
        self.check(code)
    }

    fn next_user(&mut self) -> Result<Option<User>, Failure> {
        self.next(|functions| functions.getpwent, read_user)
    }

    fn next_group(&mut self) -> Result<Option<Group>, Failure> {
        self.next(|functions| functions.getgrent, read_group)
    }

    fn end(&mut self) {
        // Told so, winbindd frees what it has prepared; what it answers matters to nobody, for the connection goes too.
        if let (Some(connection), Some(listed)) = (&self.listing, self.listed.take()) {
            let context = connection.context.as_ptr();
            // SAFETY: a live context.
            let _ = unsafe {
                match listed {
                    Listing::Users => (self.functions.endpwent)(context),
                    Listing::Groups => (self.functions.endgrent)(context),
                }
            };
        }
        self.listing = None;
    }

    fn users(&mut self, domain: Option<&str>) -> Result<Vec<String>, Failure> {
        self.list(|functions| functions.list_users, domain)
    }

    fn groups(&mut self, domain: Option<&str>) -> Result<Vec<String>, Failure> {
        self.list(|functions| functions.list_groups, domain)
    }

    fn name_to_sid(&mut self, domain: &str, name: &str) -> Result<(String, i32), Failure> {
        let context = self.context()?;
        let (domain, name) = (bounded(domain, "domain")?, bounded(name, "name")?);
        let (mut sid, mut kind) = (Sid::default(), 0);
        // SAFETY: a live context, two texts; writes one SID and one number.
        let code = unsafe {
            (self.functions.lookup_name)(context, domain.as_ptr(), name.as_ptr(), &raw mut sid, &raw mut kind)
        };
        self.check(code)?;
        Ok((self.sid_text(&sid)?, kind))
    }

    fn sid_to_name(&mut self, sid: &str) -> Result<(String, String, i32), Failure> {
        let context = self.context()?;
        let sid = self.sid(sid)?;
        let (mut domain, mut name, mut kind) = (ptr::null_mut(), ptr::null_mut(), 0);
        // SAFETY: a live context, a SID; writes two pointers and a number.
        let code = unsafe {
            (self.functions.lookup_sid)(context, &raw const sid, &raw mut domain, &raw mut name, &raw mut kind)
        };
        let (domain, name) = (self.owned(domain), self.owned(name));
        self.check(code)?;
        // SAFETY: each null or a text that ends with zero, alive until dropped here.
        unsafe {
            let domain = domain.map_or(Ok(String::new()), |domain| text(domain.as_ptr()))?;
            let name = name.map_or(Ok(String::new()), |name| text(name.as_ptr()))?;
            Ok((domain, name, kind))
        }
    }

    fn sids_to_names(&mut self, sids: &[String]) -> Result<Vec<(String, String, i32)>, Failure> {
        self.names_of(sids)
    }

    fn sids_to_ids(&mut self, sids: &[String]) -> Result<Vec<Ids>, Failure> {
        self.ids_of(sids)
    }

    fn ids_to_sids(&mut self, ids: &[UnixId]) -> Result<Vec<Option<String>>, Failure> {
        self.sids_of(ids)
    }

    fn id_to_sid(&mut self, id: UnixId) -> Result<String, Failure> {
        let context = self.context()?;
        let mut sid = Sid::default();
        // SAFETY: a live context; writes one SID.
        let code = unsafe {
            match id {
                UnixId::Uid(uid) => (self.functions.uid_to_sid)(context, uid, &raw mut sid),
                UnixId::Gid(gid) => (self.functions.gid_to_sid)(context, gid, &raw mut sid),
            }
        };
        self.check(code)?;
        self.sid_text(&sid)
    }

    fn user_sids(&mut self, sid: &str) -> Result<Vec<String>, Failure> {
        let context = self.context()?;
        let sid = self.sid(sid)?;
        let (mut count, mut sids) = (0, ptr::null_mut());
        // SAFETY: a live context, a SID; writes a number and a pointer.
        let code =
            unsafe { (self.functions.lookup_user_sids)(context, &raw const sid, false, &raw mut count, &raw mut sids) };
        let sids = self.owned(sids);
        self.check(code)?;
        // SAFETY: on success `count` SIDs stand there, until `sids` is dropped.
        self.sid_texts(unsafe { slice(sids.as_ref(), count) })
    }

    fn sid_aliases(&mut self, sid: &str, domain: &str) -> Result<Vec<String>, Failure> {
        self.aliases_of(sid, domain)
    }

    fn authenticate(&mut self, name: &str, domain: &str, proof: &Proof<'_>) -> Result<Account, Failure> {
        let context = self.context()?;
        let (name, domain) = (bounded(name, "name")?, bounded(domain, "domain")?);
        let password = match proof {
            Proof::Password(password) => Some(secret(password, "password")?),
            Proof::Response { .. } => None,
        };
        let (level, control, word) = match proof {
            Proof::Password(_) => (
                LEVEL_PLAIN,
                0,
                AuthPassword {
                    plaintext: password
                        .as_ref()
                        .map_or(ptr::null(), |password| password.as_ptr().cast()),
                },
            ),
            Proof::Response { challenge, nt, lm } => (LEVEL_RESPONSE, RESPONSE_CONTROL, response(*challenge, nt, lm)?),
        };
        let parameters = AuthUserParams {
            account_name: name.as_ptr(),
            domain_name: if domain.is_empty() {
                ptr::null()
            } else {
                domain.as_ptr()
            },
            workstation_name: ptr::null(),
            flags: 0,
            parameter_control: control,
            level,
            password: word,
        };
        let (mut info, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: a live context; every pointer in `parameters` is to something of ours that outlives the call, and `level`
        // says which member of the union holds; writes two pointers.
        let code =
            unsafe { (self.functions.authenticate)(context, &raw const parameters, &raw mut info, &raw mut error) };
        let info = self.owned(info);
        if code != SUCCESS {
            return Err(self.logon_failure(code, error, None));
        }
        drop(self.owned(error));
        let mut info = info.ok_or(Failure::Unreadable("no account"))?;
        self.account(info.get_mut())
    }

    fn log_on(&mut self, name: &str, password: &str, wanted: &Wanted) -> Result<LoggedOn, Failure> {
        self.logon(name, password, wanted)
    }

    fn log_off(&mut self, name: &str, uid: u32, krb5_cache: Option<&str>) -> Result<(), Failure> {
        self.logoff(name, uid, krb5_cache)
    }

    fn change_password(&mut self, name: &str, old: &str, new: &str) -> Result<(), Failure> {
        let context = self.context()?;
        let name = bounded(name, "name")?;
        let (old, new) = (secret(old, "old_password")?, secret(new, "new_password")?);
        let parameters = ChangePasswordParams {
            account_name: name.as_ptr(),
            domain_name: ptr::null(),
            flags: 0,
            level: LEVEL_PLAIN,
            old_password: ChangePassword {
                plaintext: old.as_ptr().cast(),
            },
            new_password: ChangePassword {
                plaintext: new.as_ptr().cast(),
            },
        };
        // SAFETY: a live context, and texts of ours that outlive the call.
        unsafe { self.change(context, &parameters) }
    }

    fn change_encrypted(
        &mut self,
        name: &str,
        domain: &str,
        new: &[u8; 516],
        old_hash: &[u8; 16],
    ) -> Result<(), Failure> {
        let context = self.context()?;
        let (name, domain) = (bounded(name, "name")?, bounded(domain, "domain")?);
        // The library takes pointers to what may be written, and does not write.
        let (mut new, mut old_hash) = (Zeroizing::new(*new), Zeroizing::new(*old_hash));
        // Nobody has LM hashes; but older winbindds copy them whether they are there or not.
        let (mut new_lm, mut old_lm) = ([0; 516], [0; 16]);
        let parameters = ChangePasswordParams {
            account_name: name.as_ptr(),
            domain_name: domain.as_ptr(),
            flags: 0,
            level: LEVEL_CHANGE_RESPONSE,
            old_password: encrypted(&mut old_hash, &mut old_lm),
            new_password: encrypted(&mut new, &mut new_lm),
        };
        // SAFETY: a live context, texts and octets of ours that outlive the call; there are as many octets as winbindd has room for.
        unsafe { self.change(context, &parameters) }
    }

    fn domain(&mut self, domain: &str) -> Result<Domain, Failure> {
        let context = self.context()?;
        let domain = bounded(domain, "domain")?;
        let mut made = ptr::null_mut();
        // SAFETY: a live context, a text; writes one pointer.
        let code = unsafe { (self.functions.domain_info)(context, domain.as_ptr(), &raw mut made) };
        let info = self.owned(made);
        self.check(code)?;
        let info = info.ok_or(Failure::Unreadable("no domain"))?;
        let info = info.get();
        Ok(Domain {
            // SAFETY: each null or a text that ends with zero, alive as long as `info`.
            short_name: unsafe { optional_text(info.short_name) }.unwrap_or_default(),
            // SAFETY: likewise.
            dns_name: unsafe { optional_text(info.dns_name) }.unwrap_or_default(),
            sid: self.sid_text(&info.sid)?,
            native_mode: info.domain_flags & DOMAIN_NATIVE != 0,
            active_directory: info.domain_flags & DOMAIN_AD != 0,
            primary: info.domain_flags & DOMAIN_PRIMARY != 0,
        })
    }

    fn trusts(&mut self) -> Result<Vec<Trust>, Failure> {
        let context = self.context()?;
        let (mut made, mut count) = (ptr::null_mut(), 0);
        // SAFETY: a live context; writes a pointer and a number.
        let code = unsafe { (self.functions.list_trusts)(context, &raw mut made, &raw mut count) };
        let domains = self.owned(made);
        self.check(code)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // SAFETY: on success `count` domains stand there, until `domains` is dropped.
        let domains = unsafe { slice(domains.as_ref(), count) };
        let all = domains.iter().map(|domain| {
            Ok(Trust {
                // SAFETY: each null or a text that ends with zero, alive as long as `domains`.
                short_name: unsafe { optional_text(domain.short_name) }.unwrap_or_default(),
                // SAFETY: likewise.
                dns_name: unsafe { optional_text(domain.dns_name) }.unwrap_or_default(),
                sid: self.sid_text(&domain.sid)?,
                offline: domain.domain_flags & DOMAIN_OFFLINE != 0,
            })
        });
        all.collect()
    }

    fn forget(&mut self) {
        // Without a word: whoever does not answer would not answer this either.
        self.main = None;
        self.listing = None;
        self.listed = None;
    }
}

impl Library {
    /// Asks for a change of a password.
    ///
    /// # Safety
    ///
    /// `context` lives; every pointer in `parameters` is to something that is there, and `level` says which members of the unions
    /// hold; lengths are at most those of winbindd's own fields.
    unsafe fn change(&self, context: *mut Context, parameters: &ChangePasswordParams) -> Result<(), Failure> {
        let (mut error, mut reason, mut policy) = (ptr::null_mut(), 0, ptr::null_mut());
        // SAFETY: the caller's promise; writes two pointers and a number.
        let code = unsafe {
            (self.functions.change_password)(context, parameters, &raw mut error, &raw mut reason, &raw mut policy)
        };
        let policy = self.owned::<PasswordPolicy>(policy);
        if code == SUCCESS {
            drop(self.owned(error));
            return Ok(());
        }
        let bounds = policy.as_ref().map(Owned::get);
        let reject = Reject {
            reason,
            min_length: bounds.map_or(0, |policy| policy.min_length),
            history: bounds.map_or(0, |policy| policy.history),
        };
        Err(self.logon_failure(code, error, Some(reject)))
    }

    pub(super) fn account(&self, info: &mut AuthUserInfo) -> Result<Account, Failure> {
        // The library wipes nothing when it frees: the keys are moved out, not copied.
        let session_key = Zeroizing::new(std::mem::take(&mut info.user_session_key));
        let lm_key = Zeroizing::new(std::mem::take(&mut info.lm_session_key));
        let mut sids = Vec::new();
        // SAFETY: `num_sids` of them stand there, alive as long as `info`.
        let groups = unsafe { raw_slice(info.sids, info.num_sids) };
        for group in groups {
            sids.push(self.sid_text(&group.sid)?);
        }
        Ok(Account {
            // SAFETY: null or a text that ends with zero, alive as long as `info`.
            name: unsafe { optional_text(info.account_name) }.unwrap_or_default(),
            // SAFETY: likewise.
            domain: unsafe { optional_text(info.domain_name) }.unwrap_or_default(),
            sids,
            session_key,
            lm_key,
            password_must_change: info.pass_must_change_time,
        })
    }
}

/// What stands in one of winbindd's fields of just this length, by the NT hash and by the LM hash.
fn encrypted<const N: usize>(nt: &mut [u8; N], lm: &mut [u8; N]) -> ChangePassword {
    const {
        assert!(
            N == 16 || N == 516,
            "the library copies so many octets, whatever has room"
        )
    };
    let length = u32::try_from(N).unwrap_or(0);
    ChangePassword {
        response: ChangeResponse {
            nt_length: length,
            nt_data: nt.as_mut_ptr(),
            lm_length: length,
            lm_data: lm.as_mut_ptr(),
        },
    }
}

fn response(challenge: [u8; 8], nt: &[u8], lm: &[u8]) -> Result<AuthPassword, Failure> {
    let length = |bytes: &[u8], what| u32::try_from(bytes.len()).map_err(|_| Failure::TooLong { what });
    let data = |bytes: &[u8]| if bytes.is_empty() { ptr::null() } else { bytes.as_ptr() };
    Ok(AuthPassword {
        response: AuthResponse {
            challenge,
            nt_length: length(nt, "nt_response")?,
            nt_data: data(nt),
            lm_length: length(lm, "lm_response")?,
            lm_data: data(lm),
        },
    })
}
