//! Any answers of a server to the daemon's own bind by SASL. The first octet chooses the mechanisms; then comes, in lines, a
//! result code (one octet) and the server's credentials. Whatever it says, the exchange ends after few steps, and a server that
//! does not know the password is never believed by SCRAM. Where GSS is asked, it answers with the server's own words: a context that
//! is established when they begin with `e`.

use std::sync::{Arc, LazyLock};

use engine::upstream::sasl::gssapi::{Context, Reply, Request};
use engine::upstream::sasl::{Account, CHANCE, Exchange, Mechanism, Turn, Who};

/// Of every exchange, so that an answer can be for it.
pub(crate) const CHANCES: [u8; CHANCE] = [0; CHANCE];

pub(crate) fn run(data: &[u8]) {
    // The accounts live on, and with them what was derived for the salts of the corpus.
    static ACCOUNTS: LazyLock<Vec<Arc<Account>>> = LazyLock::new(|| {
        let sets = (0..1 << Mechanism::ALL.len()).map(|set: u8| {
            let chosen = Mechanism::ALL.into_iter().enumerate();
            chosen
                .filter(|(at, _)| set >> at & 1 == 1)
                .map(|(_, one)| one)
                .collect::<Vec<_>>()
        });
        let who = Who {
            authcid: "user".into(),
            authzid: String::new(),
        };
        sets.filter_map(|set| Account::new(&set, &who, b"pencil".to_vec().into(), 4096).ok())
            .map(Arc::new)
            .collect()
    });
    let Some((set, lines)) = data.split_first() else { return };
    let account = &ACCOUNTS[usize::from(set & 0x1F) % ACCOUNTS.len()];
    let (mut exchange, mut turn) = Exchange::begin(account, set & 0x80 != 0, CHANCES);
    let (mut sent, mut asked) = (0, 0);
    for line in lines.split(|octet| *octet == b'\n') {
        while let Turn::Ask(request) = turn {
            asked += 1;
            turn = exchange.replied(gss(request));
        }
        let Turn::Send { .. } = turn else { break };
        sent += 1;
        let Some((code, said)) = line.split_first() else { break };
        turn = exchange.answered(u32::from(*code), (!said.is_empty()).then_some(said));
    }
    // GSSAPI has eight tokens, and two more messages.
    assert!(sent <= account.mechanisms().count() + 9, "an exchange without an end");
    assert!(asked <= 12, "GSS is asked without an end");
    if let Turn::Bound = turn {
        assert!(
            !exchange.mechanism().name().starts_with("SCRAM"),
            "a server was believed"
        );
    }
}

fn gss(request: Request) -> Reply {
    match request {
        Request::Initiate(said) => Reply::Initiated {
            context: match said.as_deref() {
                Some([b'e', ..]) => Context::Established {
                    is_mutual: true,
                    has_integrity: true,
                },
                _ => Context::Begun,
            },
            token: b"token".to_vec(),
        },
        Request::Unwrap(said) => Reply::Unwrapped(said),
        Request::Wrap(said) => Reply::Wrapped(said),
    }
}
