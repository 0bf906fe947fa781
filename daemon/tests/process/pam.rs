//! PAM without touching the machine's: stacks in a folder of ours, by pam_wrapper; users and passwords in a file, by pam_matrix;
//! any other answer that a module can give, by Linux-PAM's own pam_debug.

use std::path::Path;

use crate::proc::Folder;

/// Stacks, users, and what a helper needs in its environment to find them.
pub(crate) struct Pam {
    folder: Folder,
}

impl Pam {
    /// The users `alice` (password `secret`) and `bob` (`hush`, known to the stack `other` alone), and the stack `matrix` that knows them.
    pub(crate) fn new() -> Self {
        let folder = Folder::new("pam");
        for name in ["stacks", "run"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        folder.write("users", "alice:secret:matrix\nbob:hush:elsewhere\n");
        let pam = Self { folder };
        let module = wrapper("pam_wrapper/pam_matrix.so", "libpam-wrapper");
        let users = pam.folder.file("users");
        let lines: Vec<String> = ["auth", "account", "password", "session"]
            .iter()
            .map(|kind| format!("{kind} required {module} passdb={users}"))
            .collect();
        pam.stack("matrix", &lines.join("\n"));
        pam.stack("other", "auth required pam_deny.so\naccount required pam_deny.so");
        pam
    }

    /// A PAM service of its own.
    pub(crate) fn stack(&self, name: &str, lines: &str) {
        self.folder.write(&format!("stacks/{name}"), format!("{lines}\n"));
    }

    /// What a helper needs in its environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        wrapper("libpam_wrapper.so", "libpam-wrapper");
        [
            ("LD_PRELOAD", "libpam_wrapper.so".to_owned()),
            ("PAM_WRAPPER", "1".to_owned()),
            ("PAM_WRAPPER_SERVICE_DIR", self.folder.file("stacks")),
            // Each process has a folder there, which one that is killed leaves behind.
            ("PAM_WRAPPER_RUNTIME_DIR", self.folder.file("run")),
        ]
    }

    /// The same, for a service.
    pub(crate) fn environment(&self) -> String {
        let variables = self.variables();
        let pairs: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name} = \"{value}\""))
            .collect();
        format!("environment = {{ {} }}", pairs.join(", "))
    }
}

/// A library below the folder of this machine's architecture; panics, naming its Debian package, where it is absent.
pub(crate) fn wrapper(name: &str, package: &str) -> String {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let found = folders
        .map(|folder| folder.path().join(name))
        .find(|path: &std::path::PathBuf| Path::exists(path));
    let found = found.unwrap_or_else(|| panic!("these tests need {name}: apt-get install {package}"));
    found.display().to_string()
}
