//! What winbind is asked, in our own words: the pure part speaks to this, and so can be tested without winbindd.

use zeroize::Zeroizing;

use crate::identity::{Domain, Group, GroupKey, TicketCache, Trust, UnixId, User, UserKey};

/// winbind, asked one thing at a time. Every method blocks until it answers, fails, or is interrupted.
///
/// Names are as winbind writes them, with its own separator.
pub trait Backend {
    /// What winbindd says of itself.
    fn details(&mut self) -> Result<Details, Failure>;
    /// Does winbindd answer?
    fn ping(&mut self) -> Result<(), Failure>;
    /// Does a controller of the domain answer? Gives its name.
    fn ping_controller(&mut self, domain: &str) -> Result<String, Failure>;
    /// One user.
    fn user(&mut self, key: &UserKey) -> Result<User, Failure>;
    /// One group.
    fn group(&mut self, key: &GroupKey) -> Result<Group, Failure>;
    /// The ids of a user's groups.
    fn groups_of(&mut self, name: &str) -> Result<Vec<u32>, Failure>;
    /// Begins to list all users or all groups, on a connection of its own, in place of a listing that is open.
    fn begin(&mut self, listing: Listing) -> Result<(), Failure>;
    /// The next user of the listing begun last; none: that was all.
    fn next_user(&mut self) -> Result<Option<User>, Failure>;
    /// The next group, likewise.
    fn next_group(&mut self) -> Result<Option<Group>, Failure>;
    /// Ends the listing and gives its connection back.
    fn end(&mut self);
    /// Names of all users; of one domain, or of all.
    fn users(&mut self, domain: Option<&str>) -> Result<Vec<String>, Failure>;
    /// Names of all groups, likewise.
    fn groups(&mut self, domain: Option<&str>) -> Result<Vec<String>, Failure>;
    /// The SID of a name, and what it is.
    fn name_to_sid(&mut self, domain: &str, name: &str) -> Result<(String, i32), Failure>;
    /// Domain, name, and what it is.
    fn sid_to_name(&mut self, sid: &str) -> Result<(String, String, i32), Failure>;
    /// The same of each of many SIDs, in their order; what nobody knows is of the kind "unknown", 8.
    fn sids_to_names(&mut self, sids: &[String]) -> Result<Vec<(String, String, i32)>, Failure>;
    /// Of each SID, in their order: a uid, a gid, both, or neither.
    fn sids_to_ids(&mut self, sids: &[String]) -> Result<Vec<Ids>, Failure>;
    /// The SID of each id, in their order; none: it has none.
    fn ids_to_sids(&mut self, ids: &[UnixId]) -> Result<Vec<Option<String>>, Failure>;
    /// The SID of a uid or gid.
    fn id_to_sid(&mut self, id: UnixId) -> Result<String, Failure>;
    /// The SIDs of a user's groups.
    fn user_sids(&mut self, sid: &str) -> Result<Vec<String>, Failure>;
    /// The aliases of the domain with this SID that `sid` is in.
    fn sid_aliases(&mut self, sid: &str, domain: &str) -> Result<Vec<String>, Failure>;
    /// Is this the password, or the response?
    fn authenticate(&mut self, name: &str, domain: &str, proof: &Proof<'_>) -> Result<Account, Failure>;
    /// Is this the password, with what a logon may bring besides?
    fn log_on(&mut self, name: &str, password: &str, wanted: &Wanted) -> Result<LoggedOn, Failure>;
    /// Ends what a logon has left: its ticket.
    fn log_off(&mut self, name: &str, uid: u32, krb5_cache: Option<&str>) -> Result<(), Failure>;
    /// Changes a password.
    fn change_password(&mut self, name: &str, old: &str, new: &str) -> Result<(), Failure>;
    /// The same by an encrypted new password and an encrypted old hash ([`EncryptedChange`](crate::identity::EncryptedChange)).
    /// `name` is within `domain`.
    fn change_encrypted(
        &mut self,
        name: &str,
        domain: &str,
        new: &[u8; 516],
        old_hash: &[u8; 16],
    ) -> Result<(), Failure>;
    /// What is known of a domain.
    fn domain(&mut self, domain: &str) -> Result<Domain, Failure>;
    /// All domains, the machine's own ones among them.
    fn trusts(&mut self) -> Result<Vec<Trust>, Failure>;
    /// Forgets its connections: after an interrupt nothing on them can be trusted.
    fn forget(&mut self);
}

/// The uid and the gid of a SID: either, both or neither.
pub type Ids = (Option<u32>, Option<u32>);

/// What winbindd says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    /// Between domain and name.
    pub separator: char,
    /// NetBIOS name of the domain, or workgroup, that this machine is in.
    pub domain: String,
    /// NetBIOS name of the machine, and of its own domain of local users.
    pub host: String,
}

/// What is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listing {
    /// Users.
    Users,
    /// Groups.
    Groups,
}

/// By what somebody shows who they are.
pub enum Proof<'a> {
    /// A password.
    Password(&'a str),
    /// A response to a challenge.
    Response {
        /// As it went into the response.
        challenge: [u8; 8],
        /// NT response.
        nt: &'a [u8],
        /// LM response, often empty.
        lm: &'a [u8],
    },
}

/// What winbind knows of an account that has shown who it is.
#[derive(Default)]
pub struct Account {
    /// Its name within its domain.
    pub name: String,
    /// Its domain's NetBIOS name.
    pub domain: String,
    /// Its own SID, then those of its groups.
    pub sids: Vec<String>,
    /// Of the logon.
    pub session_key: Zeroizing<[u8; 16]>,
    /// Of the logon.
    pub lm_key: Zeroizing<[u8; 8]>,
    /// When its password must be changed, seconds since 1970; 0 or far away: never.
    pub password_must_change: u64,
}

/// What is wanted of a logon besides the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// By Kerberos, where the domain has it.
    pub kerberos: bool,
    /// Where no controller is in reach, by what the last logon left.
    pub cached: bool,
    /// Where the ticket is kept, and for which uid.
    pub ticket: Option<(TicketCache, u32)>,
}

/// What a logon brought.
#[derive(Default)]
pub struct LoggedOn {
    /// Who it is.
    pub account: Account,
    /// Where the ticket is.
    pub krb5_cache: Option<String>,
    /// The verdict is the cache's.
    pub cached: bool,
}

/// Why winbind gave nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The library's own code (`wbcErr`), and its text.
    Library {
        /// `wbcErr`.
        code: u32,
        /// For people.
        text: String,
    },
    /// What a domain controller, or winbindd for it, said about a logon or a password change.
    Logon {
        /// NTSTATUS.
        nt_status: u32,
        /// For people.
        text: String,
        /// Why a new password was not taken.
        reject: Option<Reject>,
    },
    /// Something winbind does not take: too long for it.
    TooLong {
        /// Which member.
        what: &'static str,
    },
    /// The library is older than this function of it.
    Missing(&'static str),
    /// Something that winbind sent and we cannot pass on.
    Unreadable(&'static str),
}

/// Why a new password was not taken (`wbcPasswordChangeRejectReason`), and the domain's policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// The library's number.
    pub reason: i32,
    /// Shortest password.
    pub min_length: u32,
    /// So many old ones may not be used again.
    pub history: u32,
}
