//! Any answers of a server to the daemon's own bind by SASL. The first octet chooses the mechanisms; then comes, in lines, a
//! result code (one octet) and the server's credentials. Whatever it says, the exchange ends after few steps, and a server that
//! does not know the password is never believed by SCRAM.

use std::sync::{Arc, LazyLock};

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
    let account = &ACCOUNTS[usize::from(set & 0x0F) % ACCOUNTS.len()];
    let (mut exchange, mut turn) = Exchange::begin(account, set & 0x80 != 0, CHANCES);
    let mut sent = 0;
    for line in lines.split(|octet| *octet == b'\n') {
        let Turn::Send { .. } = turn else { break };
        sent += 1;
        let Some((code, said)) = line.split_first() else { break };
        turn = exchange.answered(u32::from(*code), (!said.is_empty()).then_some(said));
    }
    assert!(sent <= account.mechanisms().count() + 2, "an exchange without an end");
    if let Turn::Bound = turn {
        assert!(
            !exchange.mechanism().name().starts_with("SCRAM"),
            "a server was believed"
        );
    }
}
