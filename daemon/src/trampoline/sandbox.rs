//! What of the system a program reaches: folders (Landlock), system calls and network (seccomp).
//!
//! The file system is closed but for what is listed. Of system calls the list names what a program that answers questions
//! never needs and what the ways out of a sandbox are made of; everything else stays, because which calls a C library makes
//! changes with each of its versions. `docs/services.md` says to users what each profile allows.

use std::io::Read;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

/// Programs, libraries and the files of the system that programs read to begin at all.
const READ: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/etc",
    "/proc",
    "/sys/devices/system/cpu",
];
/// Devices that are nobody's.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Scripts whose interpreters are scripts: as many as the kernel follows.
const INTERPRETERS_MAX: usize = 5;
/// Of a script's first line the kernel reads no more.
const FIRST_LINE_BYTES: u64 = 256;

/// The newest rights that are asked for; those of [`ABI::V1`] must be had, the later ones are where the kernel has them.
const NEWEST: ABI = ABI::V6;

/// Answered "not permitted".
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];
/// Answered "not there", so that libraries do it the older way, whose arguments can be looked at, or do without.
const ABSENT: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];
/// The flags of `clone` that make a namespace.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];
/// x86-64 kernels may take every call by a second number, with this bit set.
const X32: i64 = 0x4000_0000;
/// And some by a third one: ptrace, kexec_load, process_vm_readv, process_vm_writev.
const X32_OWN: &[i64] = &[521, 528, 539, 540];

/// What a program may reach beyond the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Whether it may start no other program.
    pub strict: bool,
    /// Files and folders that may be read, and run.
    pub read: Vec<PathBuf>,
    /// Files and folders that may be read and written.
    pub write: Vec<PathBuf>,
    /// Whether there is any socket but those of unix.
    pub network: bool,
}

impl Sandbox {
    /// From now on, for good, for this process and all it starts.
    ///
    /// # Errors
    /// What cannot be had, in words: then nothing is to be run.
    pub(super) fn enter(&self, program: &Path) -> Result<(), String> {
        self.restrict_files(program)?;
        for filter in self.filters()? {
            seccompiler::apply_filter(&filter).map_err(|error| format!("the filter of system calls: {error}"))?;
        }
        Ok(())
    }

    fn restrict_files(&self, program: &Path) -> Result<(), String> {
        for path in self.read.iter().chain(&self.write) {
            path.metadata()
                .map_err(|error| format!("the sandbox names {}: {error}", path.display()))?;
        }
        let read = READ
            .iter()
            .map(Path::new)
            .chain(self.read.iter().map(PathBuf::as_path))
            .chain([program]);
        let run = if self.strict {
            interpreters(program)?
        } else {
            READ.iter()
                .map(PathBuf::from)
                .chain(self.read.iter().cloned())
                .chain([program.to_owned()])
                .collect()
        };
        let write = DEVICES
            .iter()
            .map(Path::new)
            .chain(self.write.iter().map(PathBuf::as_path));
        let rules = || -> Result<_, landlock::RulesetError> {
            let mut ruleset = Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_all(ABI::V1))?
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(NEWEST))?
                .scope(Scope::from_all(NEWEST))?;
            if !self.network {
                ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
            }
            ruleset
                .create()?
                .add_rules(path_beneath_rules(
                    read,
                    AccessFs::from_read(NEWEST) & !AccessFs::Execute,
                ))?
                .add_rules(path_beneath_rules(
                    write,
                    AccessFs::from_all(NEWEST) & !AccessFs::Execute,
                ))?
                .add_rules(path_beneath_rules(run, AccessFs::from_file(NEWEST) & AccessFs::Execute))?
                .restrict_self()
        };
        let status = rules().map_err(|error| format!("the sandbox of files (Landlock): {error}"))?;
        match status.ruleset {
            RulesetStatus::NotEnforced => Err("the kernel has no Landlock: the sandbox cannot be had".into()),
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
        }
    }

    /// Each kind of refusal is a filter of its own; the strictest answer of all of them counts.
    fn filters(&self) -> Result<Vec<BpfProgram>, String> {
        let always = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<Vec<_>>();
        let namespaces = NAMESPACES.iter().map(|flag| {
            let flag = u64::from(flag.cast_unsigned());
            condition(0, SeccompCmpOp::MaskedEq(flag), flag)
        });
        let mut refused = always(REFUSED);
        if cfg!(target_arch = "x86_64") {
            refused.extend(always(X32_OWN));
        }
        let mut clone: Vec<SeccompRule> = namespaces.collect::<Result<_, _>>()?;
        if self.strict {
            // Threads it may have.
            let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
            clone.push(condition(0, SeccompCmpOp::MaskedEq(thread), 0)?);
            #[cfg(target_arch = "x86_64")]
            refused.extend(always(&[libc::SYS_fork, libc::SYS_vfork]));
        }
        refused.push((libc::SYS_clone, clone));
        let mut filters = vec![filter(refused, libc::EPERM)?, filter(always(ABSENT), libc::ENOSYS)?];
        if !self.network {
            let other = condition(0, SeccompCmpOp::Ne, u64::from(libc::AF_UNIX.cast_unsigned()))?;
            filters.push(filter(vec![(libc::SYS_socket, vec![other])], libc::EACCES)?);
        }
        Ok(filters)
    }
}

/// What the kernel itself runs to run a program: the program, what its first line names, and their loaders.
fn interpreters(program: &Path) -> Result<Vec<PathBuf>, String> {
    let mut all = vec![program.to_owned()];
    for _ in 0..INTERPRETERS_MAX {
        let Some(last) = all.last() else { break };
        let mut begin = Vec::new();
        std::fs::File::open(last)
            .and_then(|file| file.take(FIRST_LINE_BYTES).read_to_end(&mut begin))
            .map_err(|error| format!("{}: {error}", last.display()))?;
        let Some(line) = begin.strip_prefix(b"#!") else { break };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let Some(word) = line.split_whitespace().next() else {
            break;
        };
        all.push(PathBuf::from(word));
    }
    for folder in ["/lib", "/lib64", "/usr/lib", "/usr/lib64"] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let loaders = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"ld-"));
        all.extend(loaders.map(|entry| entry.path()));
    }
    all.push(PathBuf::from("/lib/ld-linux-aarch64.so.1"));
    Ok(all)
}

fn condition(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| error.to_string())
}

/// A rule without conditions always holds.
fn filter(mut calls: Vec<(i64, Vec<SeccompRule>)>, errno: i32) -> Result<BpfProgram, String> {
    if cfg!(target_arch = "x86_64") {
        let second: Vec<_> = calls.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        calls.extend(second);
    }
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| error.to_string())?;
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    SeccompFilter::new(calls.into_iter().collect(), SeccompAction::Allow, answer, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}
