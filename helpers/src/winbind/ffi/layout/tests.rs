//! A C compiler reads the library's own header and says where every member is.

use std::mem::{offset_of, size_of};
use std::process::Command;

use super::*;

/// Each line: the expression in C, and what it is here.
fn expectations() -> Vec<(String, usize)> {
    let mut all = Vec::new();
    sizes(&mut |c, here| all.push((format!("sizeof({c})"), here)));
    let mut at = |of: &str, member: &str, here: usize| all.push((format!("offsetof(struct {of}, {member})"), here));
    identities(&mut at);
    passwords(&mut at);
    user_info(&mut at);
    logons(&mut at);
    all
}

fn sizes(size: &mut impl FnMut(&str, usize)) {
    size("struct wbcDomainSid", size_of::<Sid>());
    size("struct wbcSidWithAttr", size_of::<SidWithAttributes>());
    size("struct wbcInterfaceDetails", size_of::<InterfaceDetails>());
    size("struct wbcDomainInfo", size_of::<DomainInfo>());
    size("struct wbcAuthUserParams", size_of::<AuthUserParams>());
    size("struct wbcAuthUserInfo", size_of::<AuthUserInfo>());
    size("struct wbcAuthErrorInfo", size_of::<AuthErrorInfo>());
    size("struct wbcChangePasswordParams", size_of::<ChangePasswordParams>());
    size("struct wbcUserPasswordPolicyInfo", size_of::<PasswordPolicy>());
    size("struct wbcUnixId", size_of::<UnixId>());
    size("struct wbcBlob", size_of::<Blob>());
    size("struct wbcNamedBlob", size_of::<NamedBlob>());
    size("struct wbcLogonUserParams", size_of::<LogonUserParams>());
    size("struct wbcLogonUserInfo", size_of::<LogonUserInfo>());
    size("struct wbcLogoffUserParams", size_of::<LogoffUserParams>());
    size("struct wbcTranslatedName", size_of::<TranslatedName>());
    size("wbcErr", size_of::<u32>());
    size("enum wbcSidType", size_of::<c_int>());
    size("enum wbcPasswordChangeRejectReason", size_of::<c_int>());
    size("struct passwd", size_of::<libc::passwd>());
    size("struct group", size_of::<libc::group>());
    size("bool", size_of::<bool>());
}

fn identities(at: &mut impl FnMut(&str, &str, usize)) {
    at("wbcDomainSid", "id_auth", offset_of!(Sid, authority));
    at("wbcDomainSid", "sub_auths", offset_of!(Sid, sub_auths));
    at(
        "wbcSidWithAttr",
        "attributes",
        offset_of!(SidWithAttributes, attributes),
    );
    at(
        "wbcInterfaceDetails",
        "winbind_version",
        offset_of!(InterfaceDetails, winbind_version),
    );
    at(
        "wbcInterfaceDetails",
        "winbind_separator",
        offset_of!(InterfaceDetails, separator),
    );
    at(
        "wbcInterfaceDetails",
        "netbios_domain",
        offset_of!(InterfaceDetails, netbios_domain),
    );
    at(
        "wbcInterfaceDetails",
        "dns_domain",
        offset_of!(InterfaceDetails, dns_domain),
    );
    at("wbcDomainInfo", "dns_name", offset_of!(DomainInfo, dns_name));
    at("wbcDomainInfo", "sid", offset_of!(DomainInfo, sid));
    at("wbcDomainInfo", "domain_flags", offset_of!(DomainInfo, domain_flags));
    at("wbcDomainInfo", "trust_routing", offset_of!(DomainInfo, trust_routing));
}

fn passwords(at: &mut impl FnMut(&str, &str, usize)) {
    at(
        "wbcAuthUserParams",
        "domain_name",
        offset_of!(AuthUserParams, domain_name),
    );
    at(
        "wbcAuthUserParams",
        "parameter_control",
        offset_of!(AuthUserParams, parameter_control),
    );
    at("wbcAuthUserParams", "level", offset_of!(AuthUserParams, level));
    at(
        "wbcAuthUserParams",
        "password.plaintext",
        offset_of!(AuthUserParams, password),
    );
    let response = |member: usize| offset_of!(AuthUserParams, password) + member;
    for (member, here) in [
        ("challenge", offset_of!(AuthResponse, challenge)),
        ("nt_length", offset_of!(AuthResponse, nt_length)),
        ("nt_data", offset_of!(AuthResponse, nt_data)),
        ("lm_length", offset_of!(AuthResponse, lm_length)),
        ("lm_data", offset_of!(AuthResponse, lm_data)),
    ] {
        at(
            "wbcAuthUserParams",
            &format!("password.response.{member}"),
            response(here),
        );
    }
    at("wbcAuthErrorInfo", "nt_string", offset_of!(AuthErrorInfo, nt_string));
    at(
        "wbcAuthErrorInfo",
        "display_string",
        offset_of!(AuthErrorInfo, display_string),
    );
    at(
        "wbcAuthErrorInfo",
        "authoritative",
        offset_of!(AuthErrorInfo, authoritative),
    );
    changed_passwords(at);
    at("wbcUnixId", "id", offset_of!(UnixId, id));
    at("passwd", "pw_uid", offset_of!(libc::passwd, pw_uid));
    at("passwd", "pw_gecos", offset_of!(libc::passwd, pw_gecos));
    at("passwd", "pw_shell", offset_of!(libc::passwd, pw_shell));
    at("group", "gr_gid", offset_of!(libc::group, gr_gid));
    at("group", "gr_mem", offset_of!(libc::group, gr_mem));
}

fn changed_passwords(at: &mut impl FnMut(&str, &str, usize)) {
    at(
        "wbcChangePasswordParams",
        "level",
        offset_of!(ChangePasswordParams, level),
    );
    at(
        "wbcChangePasswordParams",
        "old_password",
        offset_of!(ChangePasswordParams, old_password),
    );
    at(
        "wbcChangePasswordParams",
        "new_password",
        offset_of!(ChangePasswordParams, new_password),
    );
    let (old, new) = (
        offset_of!(ChangePasswordParams, old_password),
        offset_of!(ChangePasswordParams, new_password),
    );
    for (member, here) in [
        (
            "old_password.response.old_nt_hash_enc_length",
            old + offset_of!(ChangeResponse, nt_length),
        ),
        (
            "old_password.response.old_nt_hash_enc_data",
            old + offset_of!(ChangeResponse, nt_data),
        ),
        (
            "old_password.response.old_lm_hash_enc_length",
            old + offset_of!(ChangeResponse, lm_length),
        ),
        (
            "old_password.response.old_lm_hash_enc_data",
            old + offset_of!(ChangeResponse, lm_data),
        ),
        (
            "new_password.response.nt_length",
            new + offset_of!(ChangeResponse, nt_length),
        ),
        (
            "new_password.response.nt_data",
            new + offset_of!(ChangeResponse, nt_data),
        ),
        (
            "new_password.response.lm_length",
            new + offset_of!(ChangeResponse, lm_length),
        ),
        (
            "new_password.response.lm_data",
            new + offset_of!(ChangeResponse, lm_data),
        ),
    ] {
        at("wbcChangePasswordParams", member, here);
    }
    at(
        "wbcUserPasswordPolicyInfo",
        "password_properties",
        offset_of!(PasswordPolicy, properties),
    );
    at(
        "wbcUserPasswordPolicyInfo",
        "expire",
        offset_of!(PasswordPolicy, expire),
    );
}

fn user_info(at: &mut impl FnMut(&str, &str, usize)) {
    let info = "wbcAuthUserInfo";
    at(info, "account_name", offset_of!(AuthUserInfo, account_name));
    at(info, "domain_name", offset_of!(AuthUserInfo, domain_name));
    at(info, "acct_flags", offset_of!(AuthUserInfo, acct_flags));
    at(info, "user_session_key", offset_of!(AuthUserInfo, user_session_key));
    at(info, "lm_session_key", offset_of!(AuthUserInfo, lm_session_key));
    at(info, "logon_count", offset_of!(AuthUserInfo, logon_count));
    at(info, "logon_time", offset_of!(AuthUserInfo, logon_time));
    at(
        info,
        "pass_must_change_time",
        offset_of!(AuthUserInfo, pass_must_change_time),
    );
    at(info, "logon_server", offset_of!(AuthUserInfo, logon_server));
    at(info, "num_sids", offset_of!(AuthUserInfo, num_sids));
    at(info, "sids", offset_of!(AuthUserInfo, sids));
}

fn logons(at: &mut impl FnMut(&str, &str, usize)) {
    at("wbcNamedBlob", "flags", offset_of!(NamedBlob, flags));
    at("wbcNamedBlob", "blob.data", offset_of!(NamedBlob, blob));
    at("wbcBlob", "length", offset_of!(Blob, length));
    at("wbcLogonUserParams", "password", offset_of!(LogonUserParams, password));
    at(
        "wbcLogonUserParams",
        "num_blobs",
        offset_of!(LogonUserParams, num_blobs),
    );
    at("wbcLogonUserParams", "blobs", offset_of!(LogonUserParams, blobs));
    at("wbcLogonUserInfo", "info", offset_of!(LogonUserInfo, info));
    at("wbcLogonUserInfo", "num_blobs", offset_of!(LogonUserInfo, num_blobs));
    at("wbcLogonUserInfo", "blobs", offset_of!(LogonUserInfo, blobs));
    at(
        "wbcLogoffUserParams",
        "num_blobs",
        offset_of!(LogoffUserParams, num_blobs),
    );
    at("wbcLogoffUserParams", "blobs", offset_of!(LogoffUserParams, blobs));
    at("wbcTranslatedName", "name", offset_of!(TranslatedName, name));
    at(
        "wbcTranslatedName",
        "domain_index",
        offset_of!(TranslatedName, domain_index),
    );
}

#[test]
fn sizes_and_offsets_are_those_of_the_header() {
    const HEADER: &str = "/usr/include/samba-4.0/wbclient.h";
    assert!(
        std::path::Path::new(HEADER).exists(),
        "this test needs {HEADER}: apt-get install libwbclient-dev"
    );
    let expected = expectations();
    let folder = std::env::temp_dir().join(format!("usherd-layout-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let mut program = String::from(
        "#include <stdio.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <stdbool.h>\n#include <sys/types.h>\n#include <wbclient.h>\nint main(void) {\n",
    );
    for (expression, _) in &expected {
        program.push_str(&format!("  printf(\"%zu\\n\", (size_t){expression});\n"));
    }
    program.push_str("  return 0;\n}\n");
    let (source, binary) = (folder.join("layout.c"), folder.join("layout"));
    std::fs::write(&source, program).expect("a temporary file");
    let compiled = Command::new("cc")
        .arg("-I/usr/include/samba-4.0")
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .output()
        .expect("this test needs cc: apt-get install gcc libc6-dev");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let output = Command::new(&binary).output().expect("what was compiled runs");
    let _ = std::fs::remove_dir_all(&folder);
    let figures: Vec<usize> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(figures.len(), expected.len());
    for ((expression, here), there) in expected.iter().zip(figures) {
        assert_eq!(*here, there, "{expression}: left is ours, right is the header's");
    }
}
