//! What is translated says what it said, and is a configuration of ours.

use std::path::PathBuf;

use engine::core::policy::Kind as Policy;

use super::*;
use crate::config::Plan;
use crate::config::plan::{Bind, Identity, Target, UpstreamTls};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("usherd-lloadd-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Translated {
    text: String,
    told: Told,
}

impl Translated {
    fn faults(&self) -> Vec<String> {
        self.told.faults.iter().map(ToString::to_string).collect()
    }

    fn has_fault(&self, part: &str) {
        let all = self.faults();
        assert!(all.iter().any(|fault| fault.contains(part)), "{part}: {all:#?}");
    }

    fn has_notice(&self, part: &str) {
        let all: Vec<String> = self.told.notices.iter().map(ToString::to_string).collect();
        assert!(all.iter().any(|notice| notice.contains(part)), "{part}: {all:#?}");
    }
}

/// Translates, without reading it back.
fn translate(scratch: &Scratch, text: &str, urls: &str) -> Translated {
    let path = scratch.file("lloadd.conf", text);
    let mut told = Told::default();
    let mut model = Model::default();
    for line in lex::read(Path::new(&path), &mut told).unwrap() {
        settings::take(&mut model, &line, &mut told);
    }
    let listeners = listeners::listeners(Some(urls), None, &mut told);
    let body = write::body(&mut model, &listeners, None, &path, &mut told);
    if let Some(password) = &model.bind.password {
        scratch.file("usherd.password", password);
    }
    Translated {
        text: body.text(&path, "usherd.password", &told),
        told,
    }
}

/// Translates and reads it back; nothing may be wrong with it.
fn plan(scratch: &Scratch, text: &str, urls: &str) -> (Plan, Translated) {
    let translated = translate(scratch, text, urls);
    match config::from_text(&translated.text, &scratch.0.join("usherd.toml")) {
        Ok((plan, _)) => (plan, translated),
        Err(found) => panic!("{}\n{}", config::render(&found, false), translated.text),
    }
}

const BIND: &str = "enable proxyauthz\nbindconf bindmethod=simple\n  binddn=\"cn=Manager,dc=example,dc=com\"\n  credentials=\"s3 e\\\"c\"\n";

#[test]
fn a_whole_configuration_says_the_same_here() {
    let scratch = Scratch::new("whole");
    let more = scratch.file("more.conf", "CLIENT_MAX_PENDING 7\nidletimeout 600\n");
    let text = format!(
        "# a comment\n   that goes on\ninclude {more}\nsockbuf_max_incoming_client 4194303\n\
         sockbuf_max_incoming_upstream 8388608\nsockbuf_max_pending_client 65536\niotimeout 2500\nmax_pdus_per_cycle 50\n\
         io-threads 2\n{BIND}  timeout=20 network-timeout=3\n\
         tier roundrobin\ntier weighted\nbackend-server uri=ldap://one.example.com/ numconns=3 bindconns=2 retry=5000\n\
         \tmax-pending-ops=5\n\tconn-max-pending=3\n\tweight=10 starttls=critical\n\
         backend-server uri=ldaps://two.example.com:1636 weight=1 retry=5000\n\
         tier bestof\nbackend-server uri=ldap://three.example.com retry=400\n"
    );
    let (plan, translated) = plan(&scratch, &text, "ldap://127.0.0.1:1389 ldap://[::1]:1389/");
    assert_eq!(translated.faults(), Vec::<String>::new());
    translated.has_notice("lloadd.conf:15: a tier without servers; it is left out");
    translated.has_notice("servers differ in their retry; it is one for all here: 400 ms");
    let directory = &plan.directories["ldap"];
    assert_eq!(directory.identity, Identity::Proxied);
    let own = directory
        .assertions
        .as_ref()
        .expect("lloadd's own identity may assert others");
    assert!(own.has(b"dn:cn=Manager,dc=example,dc=com") && !own.has(b"dn:cn=manager,dc=example,dc=com"));
    let bind = directory.bind.as_ref().unwrap().simple().unwrap();
    assert_eq!(bind.dn, "cn=Manager,dc=example,dc=com");
    assert_eq!(bind.password.as_slice(), b"s3 e\"c");
    let ms = |length: std::time::Duration| length.as_millis();
    let limits = &directory.limits;
    assert_eq!(
        (
            limits.client_pending_max,
            limits.request_bytes_max,
            limits.response_bytes_max
        ),
        (7, 4_194_303, 8 << 20)
    );
    assert_eq!(
        [
            ms(limits.search_timeout),
            ms(limits.operation_timeout),
            ms(limits.connect_timeout),
            ms(limits.retry_min),
            ms(limits.retry_max)
        ],
        [20_000, 20_000, 3000, 400, 400]
    );
    let tiers: Vec<(Policy, usize)> = directory
        .tiers
        .iter()
        .map(|tier| (tier.policy, tier.servers.len()))
        .collect();
    assert_eq!(tiers, [(Policy::Weighted, 2), (Policy::BestOfTwo, 1)]);
    let one = &directory.tiers[0].servers[0];
    assert_eq!(
        [
            one.connections,
            one.connections_max,
            one.bind_connections_max,
            one.pending_max,
            one.connection_pending_max
        ],
        [3, 3, 2, 5, 3]
    );
    assert_eq!((one.weight, directory.tiers[0].servers[1].weight), (10, 1));
    let Target::Tcp { host, port, tls } = &one.target else {
        panic!("{:?}", one.target)
    };
    assert_eq!((host.as_str(), *port), ("one.example.com", 389));
    assert!(matches!(tls, UpstreamTls::StartTlsRequired(_)));
    assert_eq!(plan.listeners.len(), 2);
    let listener = &plan.listeners[0];
    assert_eq!(
        (ms(listener.write_timeout), listener.idle_timeout.map(ms)),
        (2500, Some(600_000))
    );
    assert_eq!((listener.outbox_bytes_max, listener.turn_messages_max), (65536, 50));
}

#[test]
fn without_a_bind_clients_stay_on_connections_of_their_own() {
    let scratch = Scratch::new("anonymous");
    let (plan, translated) = plan(
        &scratch,
        "disable proxyauthz\nrestrict_control 1.2.840.113556.1.4.319 connection\nwrite_coherence 5\n\
         tier roundrobin\nbackend-server uri=ldap://a.example.com\nbackend-server uri=ldap://a.example.com\n",
        "ldapi://%2Ftmp%2Fx/????x-mod=-rwxrwx---",
    );
    assert_eq!(translated.faults(), Vec::<String>::new());
    assert_eq!(plan.directories["ldap"].identity, Identity::Pinned);
    let routing = &plan.directories["ldap"].routing;
    assert_eq!(routing.write_coherence, std::time::Duration::from_secs(5));
    let action = routing.rules.control(b"1.2.840.113556.1.4.319");
    assert_eq!(action, engine::session::ldap::rules::Action::Isolate, "which is more");
    translated.has_notice(
        "restrict_control 1.2.840.113556.1.4.319 connection is more; such a client has a connection to itself here",
    );
    assert!(translated.text.contains("mode = \"0770\""), "{}", translated.text);
    let names: Vec<&str> = plan.directories["ldap"].tiers[0]
        .servers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["ldap://a.example.com", "ldap://a.example.com (2)"]);
}

#[test]
fn transactions_have_a_connection_to_themselves_whatever_lloadd_gives_them() {
    let scratch = Scratch::new("transactions");
    let (plan, translated) = plan(
        &scratch,
        "feature proxyauthz\nbindconf bindmethod=simple binddn=cn=proxy credentials=hush\n\
         restrict_exop 1.3.6.1.1.21.1 backend\nrestrict_exop 1.3.6.1.1.21.3 write\n\
         restrict_control 1.3.6.1.1.21.2 backend\ntier roundrobin\nbackend-server uri=ldap://a.example.com\n",
        "ldap://127.0.0.1:1389",
    );
    assert_eq!(translated.faults(), Vec::<String>::new());
    assert_eq!(plan.directories["ldap"].identity, Identity::Proxied);
    let rules = &plan.directories["ldap"].routing.rules;
    let isolate = engine::session::ldap::rules::Action::Isolate;
    assert_eq!(rules.extended(b"1.3.6.1.1.21.1"), isolate);
    assert_eq!(rules.extended(b"1.3.6.1.1.21.3"), isolate);
    assert_eq!(rules.control(b"1.3.6.1.1.21.2"), isolate);
    translated.has_notice("restrict_exop 1.3.6.1.1.21.3 write is more");
}

#[test]
fn what_somebody_relies_on_is_a_fault_with_its_line() {
    let scratch = Scratch::new("faults");
    for (line, part) in [
        (
            "restrict_control 1.2.3 refuse",
            "restrict_control 1.2.3 refuse: no such action",
        ),
        ("write_coherence -1", "write_coherence -1 has no counterpart"),
        ("restrict read", "restrict has no counterpart"),
        ("TLSCRLCheck all", "TLSCRLCheck all has no counterpart"),
        ("TLSProtocolMin 3.4", "TLSProtocolMin 3.4 has no counterpart"),
        ("TLSCACertificatePath /etc", "TLSCACertificatePath has no counterpart"),
        ("TLSVerifyClient sometimes", "TLSVerifyClient sometimes; no such level"),
        ("bindconf tls_crlcheck=peer", "tls_crlcheck peer has no counterpart"),
        ("bindconf tls_cacertdir=/etc", "tls_cacertdir has no counterpart"),
        ("bindconf hush", "an argument of bindconf without a ="),
        ("bindconf hush=hush", "an argument that bindconf does not have"),
        ("credentials=hush", "lloadd has no setting credentials;"),
        (
            "bindconf bindmethod=sasl saslmech=GSS-SPNEGO",
            "bindmethod=sasl (saslmech=GSS-SPNEGO) has no counterpart",
        ),
        ("bindconf bindmethod=sasl", "bindmethod=sasl without saslmech"),
        (
            "bindconf bindmethod=sasl saslmech=SCRAM-SHA-256",
            "bindmethod=sasl without authcid and credentials",
        ),
        (
            "bindconf bindmethod=sasl saslmech=EXTERNAL authzid=usherd",
            "authzid=usherd",
        ),
        ("disable proxyauthz", "proxyauthz is off"),
        ("no_such_thing 1", "lloadd has no setting no_such_thing"),
        ("iotimeout soon", "iotimeout soon is no number"),
        ("tier \"quickest", "a quote is opened and not closed"),
        ("tier quickest", "lloadd has no tier quickest"),
        ("backend-server uri=http://x", "uri=http://x: the server is left out"),
        ("backend-server numconns=1", "a backend-server without a uri"),
        ("include /nowhere/at/all", "include /nowhere/at/all cannot be read"),
    ] {
        let text = format!("{BIND}tier weighted\nbackend-server uri=ldap://a\nbackend-server uri=ldap://b\n{line}\n");
        let (_, translated) = plan(&scratch, &text, "ldap://127.0.0.1:1389");
        translated.has_fault(&format!("lloadd.conf:8: {part}"));
        assert!(translated.text.contains(part), "{}", translated.text);
        assert!(
            !translated.text.contains("hush") && !translated.text.contains("s3 e"),
            "{}",
            translated.text
        );
        assert_eq!(translated.told.faults.len(), 1, "{line}: {:#?}", translated.faults());
    }
    let translated = translate(
        &scratch,
        "backend-server uri=ldap://a\n",
        "pldap://:1 ldapi:/// ldap://no.such.invalid",
    );
    translated.has_fault("a backend-server before the first tier");
    translated.has_fault("pldap://:1: nothing listens there");
    translated.has_fault("ldapi:///: nothing listens there");
    translated.has_fault("ldap://no.such.invalid: nothing listens there");
    scratch.file("lloadd.conf", "");
    let looping = scratch.0.join("lloadd.conf").display().to_string();
    translate(&scratch, &format!("include {looping}\n"), "").has_fault("more than 16 deep");
}

#[test]
fn what_nobody_misses_is_a_notice_with_its_line() {
    let scratch = Scratch::new("notices");
    for (line, part) in [
        ("pidfile /run/x", "pidfile is left out"),
        ("loglevel stats trace", "loglevel is left out"),
        ("gentlehup on", "gentlehup is left out"),
        ("tcp-buffer listener=ldap:/// read=1", "tcp-buffer is left out"),
        ("logfile-rotate 1 2 3", "logfile-rotate is left out"),
        ("TLSShareSlapdCTX yes", "TLSShareSlapdCTX is left out"),
        ("TLSProtocolMin 3.1", "TLSProtocolMin 3.1 is left out"),
        (
            "restrict_exop 1.3.6.1.1.8 reject",
            "restrict_exop 1.3.6.1.1.8 reject is left out",
        ),
        ("restrict_exop 1.1 ignore", "restrict_exop 1.1 ignore is left out"),
        ("feature vc", "binds as Verify Credentials operations"),
        ("disable read_pause", "read_pause is off"),
        ("bindconf tls_reqsan=never", "tls_reqsan=never is left out"),
        (
            "sockbuf_max_pending_client 0",
            "sockbuf_max_pending_client 0, without a bound",
        ),
        (
            "sockbuf_max_incoming_client 10",
            "sockbuf_max_incoming_client 10; 1024 is taken",
        ),
        ("max_pdus_per_cycle 0", "max_pdus_per_cycle 0 is left out"),
        ("backend lload", "backend is left out"),
    ] {
        let text = format!("{BIND}tier weighted\nbackend-server uri=ldap://a\nbackend-server uri=ldap://b\n{line}\n");
        let (_, translated) = plan(&scratch, &text, "ldap://127.0.0.1:1389");
        translated.has_notice(&format!("lloadd.conf:8: {part}"));
        assert_eq!(translated.faults(), Vec::<String>::new());
    }
}

#[test]
fn weights_mean_what_they_meant() {
    let scratch = Scratch::new("weights");
    for (tier, written, right) in [
        ("weighted", [10, 1, 0], [10, 1, 0]),
        ("weighted", [0, 0, 0], [1, 1, 1]),
        ("bestof", [0, 0, 0], [1, 1, 1]),
        ("bestof", [1, 2, 4], [1000, 500, 250]),
        ("bestof", [0, 3, 6], [1000, 1000, 500]),
        ("roundrobin", [1, 2, 3], [1, 1, 1]),
    ] {
        let servers: String = written
            .iter()
            .zip(["a", "b", "c"])
            .map(|(weight, host)| format!("backend-server uri=ldap://{host} weight={weight}\n"))
            .collect();
        let (plan, _) = plan(&scratch, &format!("tier {tier}\n{servers}"), "ldap://127.0.0.1:1389");
        let read: Vec<u32> = plan.directories["ldap"].tiers[0]
            .servers
            .iter()
            .map(|one| one.weight)
            .collect();
        assert_eq!(read, right, "{tier} {written:?}");
    }
}

#[test]
fn certificates_are_taken_with_what_is_asked_of_clients() {
    let scratch = Scratch::new("tls");
    let tls = "TLSCertificateFile /c.crt\nTLSCertificateKeyFile /c.key\nTLSCACertificateFile /ca.crt\n";
    let servers = "tier weighted\nbackend-server uri=ldaps://a\n";
    let text = |more: &str| {
        translate(
            &scratch,
            &format!("{tls}{more}{servers}"),
            "ldap://[::]:1389 ldaps://[::]:1636",
        )
    };
    let plain = text("");
    for line in [
        "tls = { ca_file = \"/ca.crt\" }\n",
        "address = \"ldap://[::]:1389\"\nstarttls = true\ntls = { cert_file = \"/c.crt\", key_file = \"/c.key\" }\n",
        "address = \"ldaps://[::]:1636\"\ntls = { cert_file = \"/c.crt\", key_file = \"/c.key\" }\n",
    ] {
        assert!(plain.text.contains(line), "{line}\n{}", plain.text);
    }
    for (level, right) in [
        ("try", "request"),
        ("allow", "request"),
        ("demand", "require"),
        ("hard", "require"),
    ] {
        let translated = text(&format!("TLSVerifyClient {level}\n"));
        let right = format!("client_ca_file = \"/ca.crt\", client_cert = \"{right}\" }}");
        assert!(translated.text.contains(&right), "{right}\n{}", translated.text);
        assert_eq!(translated.faults(), Vec::<String>::new());
    }
    let own = text("bindconf tls_cacert=/own.crt tls_cert=/o.crt tls_key=/o.key\n");
    let right = "tls = { ca_file = \"/own.crt\", cert_file = \"/o.crt\", key_file = \"/o.key\" }";
    assert!(own.text.contains(right), "{}", own.text);
    let unverified = text("bindconf tls_reqcert=allow\n");
    assert!(
        unverified.text.contains("tls = { verify = false }"),
        "{}",
        unverified.text
    );
    text("bindconf tls_cert=/o.crt\n").has_fault("tls_cert without tls_key");
    let half = translate(&scratch, &format!("TLSCertificateFile /c.crt\n{servers}"), "ldap://");
    half.has_fault("a certificate without its key");
    let blind = format!("TLSCertificateFile /c.crt\nTLSCertificateKeyFile /c.key\nTLSVerifyClient demand\n{servers}");
    translate(&scratch, &blind, "ldap://").has_fault("TLSVerifyClient without TLSCACertificateFile");
}

#[test]
fn a_bind_by_sasl_is_the_same_bind_here() {
    use engine::upstream::sasl::Mechanism;
    let scratch = Scratch::new("sasl");
    let servers = "tier roundrobin\nbackend-server uri=ldap://a starttls=critical\n";
    let with = |lines: &str| {
        let text = format!("enable proxyauthz\nbindconf bindmethod=sasl {lines}\n{servers}");
        plan(&scratch, &text, "ldap://127.0.0.1:1389")
    };
    let own = |plan: &Plan| match plan.directories["ldap"].bind.clone() {
        Some(Bind::Sasl(sasl)) => sasl,
        other => panic!("{other:?}"),
    };
    let (translated, told) = with(
        "saslmech=\"SCRAM-SHA-256 scram-sha-1\"\n authcid=usherd authzid=\"dn:cn=x,dc=y\" credentials=hush realm=here\n \
         secprops=noplain,maxssf=0,nodict binddn=cn=old",
    );
    assert_eq!(told.faults(), Vec::<String>::new());
    told.has_notice("lloadd.conf:3: realm is left out");
    told.has_notice("lloadd.conf:4: secprops nodict is left out");
    told.has_notice("lloadd.conf:4: binddn is left out");
    assert_eq!(translated.directories["ldap"].identity, Identity::Proxied);
    let account = own(&translated).account;
    let mechanisms: Vec<Mechanism> = account.mechanisms().collect();
    assert_eq!(mechanisms, [Mechanism::ScramSha256, Mechanism::ScramSha1]);
    assert_eq!(
        (account.who().authcid.as_str(), account.who().authzid.as_str()),
        ("usherd", "dn:cn=x,dc=y")
    );
    assert!(!told.text.contains("hush"), "{}", told.text);
    assert!(
        told.text.contains("# ") && told.text.contains("lloadd.conf:3 authcid"),
        "{}",
        told.text
    );

    // A certificate is who the daemon is: no password, no file of it.
    let external = |lines: &str| {
        let text = format!("enable proxyauthz\nbindconf bindmethod=sasl saslmech=EXTERNAL {lines}\n{servers}");
        translate(&scratch, &text, "ldap://127.0.0.1:1389")
    };
    let told = external("authcid=usherd tls_cert=/c tls_key=/k");
    assert_eq!(told.faults(), Vec::<String>::new());
    told.has_notice("authcid is left out");
    assert!(told.text.contains("bind_mechanism = \"EXTERNAL\""), "{}", told.text);
    assert!(
        !told.text.contains("bind_password_file") && !told.text.contains("bind_authcid"),
        "{}",
        told.text
    );

    let (_, told) = with("saslmech=SCRAM-SHA-1 authcid=u credentials=hush secprops=minssf=56");
    told.has_fault("lloadd.conf:2: secprops minssf=56 has no counterpart");

    // PLAIN goes where it went, and nowhere else.
    let plain = "bindmethod=sasl saslmech=PLAIN authcid=u credentials=hush";
    let in_clear = |more: &str, server: &str| {
        let text =
            format!("enable proxyauthz\nbindconf {plain} {more}\ntier roundrobin\nbackend-server uri={server}\n");
        translate(&scratch, &text, "ldap://127.0.0.1:1389")
    };
    in_clear("", "ldap://far.example").has_fault("lloadd.conf:2: PLAIN on a connection that nothing protects");
    in_clear("secprops=none,noplain", "ldap://far.example").has_fault("PLAIN on a connection that nothing protects");
    let told = in_clear("secprops=none", "ldap://far.example");
    assert_eq!(told.faults(), Vec::<String>::new());
    told.has_notice("lloadd.conf:2: PLAIN is allowed where nothing protects it");
    assert!(told.text.contains("bind_in_clear = true"), "{}", told.text);
    let told = in_clear("", "ldaps://far.example");
    assert!(
        told.faults().is_empty() && !told.text.contains("bind_in_clear"),
        "{}",
        told.text
    );
}

#[cfg(feature = "gssapi")]
#[test]
fn a_bind_by_gssapi_takes_its_tickets_where_lloadd_did() {
    use engine::upstream::sasl::Mechanism;
    let scratch = Scratch::new("gssapi");
    let with = |lines: &str| {
        let servers = "tier roundrobin\nbackend-server uri=ldap://a starttls=critical\n";
        let text = format!("enable proxyauthz\nbindconf bindmethod=sasl {lines}\n{servers}");
        plan(&scratch, &text, "ldap://127.0.0.1:1389")
    };
    let (translated, told) = with("saslmech=GSSAPI authcid=usherd authzid=u:x realm=EXAMPLE.COM");
    assert_eq!(told.faults(), Vec::<String>::new());
    told.has_notice("lloadd.conf:2: authcid is left out; with GSSAPI the ticket says who that is");
    told.has_notice("lloadd.conf:2: GSSAPI takes its key or tickets where lloadd did");
    let Some(Bind::Sasl(sasl)) = translated.directories["ldap"].bind.clone() else {
        panic!("no bind by SASL");
    };
    assert_eq!(sasl.account.mechanisms().collect::<Vec<_>>(), [Mechanism::Gssapi]);
    assert_eq!(sasl.account.who().authzid, "u:x");
    let kerberos = sasl.kerberos.unwrap();
    assert_eq!((kerberos.keytab.as_ref(), kerberos.ccache.as_ref()), (None, None));
    let (_, told) = with("saslmech=\"GSSAPI SCRAM-SHA-1\" authcid=usherd credentials=hush");
    assert_eq!(told.faults(), Vec::<String>::new());
    let nameless =
        "bindconf bindmethod=sasl saslmech=GSSAPI\ntier roundrobin\nbackend-server uri=ldapi://%2Frun%2Fldapi\n";
    translate(&scratch, nameless, "ldap://127.0.0.1:1389")
        .has_fault("lloadd.conf:1: GSSAPI to a server without a name");
    let (_, told) = with("saslmech=GSSAPI secprops=minssf=56");
    told.has_fault("lloadd.conf:2: secprops minssf=56 has no counterpart");
}
