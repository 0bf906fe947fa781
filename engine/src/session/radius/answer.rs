//! How a request ends: its answer is written, kept for a client that asks again, and counted.
//!
//! An accept whose attributes do not fit a packet is no accept: a user let in without the attributes that bound it would be let
//! in too far. It becomes a reject.

use wire::radius::{Code, Packet, Unwritable, Writer};

use super::asking::Asking;
use super::method::{Method, Offer};
use super::plan::{Plan, Port};
use super::reply::{self, Accept};
use super::{Came, Effect, Front, Outcome, RequestId, Work};
use crate::core::arena::Handle;
use crate::core::time::Instant;
use crate::radius::Dropped;
use crate::radius::clients::Client;
use crate::radius::duplicates::Mark;

impl Front {
    pub(super) fn finish(&mut self, request: RequestId, outcome: Outcome, now: Instant, out: &mut Vec<u8>) {
        let Some(mut running) = self.requests.remove(Handle::from_bits(request.0)) else {
            return;
        };
        self.disown(running.mark);
        let Ok(packet) = Packet::parse(&running.packet) else {
            return;
        };
        let came = Came {
            plan: &running.plan,
            client: running.client,
            path: &running.path,
            // How long a reject was held back says nothing about how long answers take.
            received_at: match running.work {
                Work::HeldBack(_) => running.received_at + running.plan.settings.reject_delay,
                _ => running.received_at,
            },
        };
        let asking = match &mut running.work {
            Work::Asking(asking) | Work::HeldBack(asking) => {
                asking.left(&running.plan, &mut self.figures, Some(now));
                Some(&mut **asking)
            }
            Work::Recording => None,
        };
        self.answer(came, running.mark, &packet, outcome, asking, now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one packet's circumstances, in one place")]
    pub(super) fn answer(
        &mut self,
        came: Came<'_>,
        mark: Mark,
        packet: &Packet<'_>,
        outcome: Outcome,
        mut asking: Option<&mut Asking>,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let sent = match (outcome, came.plan.clients.get(came.client)) {
            (Outcome::Silence(why), _) => Err(why),
            (_, None) => Err(Dropped::UnknownClient),
            (_, Some(client)) => self.write(came.plan, client, packet, outcome, asking.as_deref_mut(), out),
        };
        let answered = sent.and_then(|code| {
            let written = out.get(start..).unwrap_or_default();
            let kept = self.duplicates.answered(mark, written, now);
            if kept { Ok(code) } else { Err(Dropped::Cancelled) }
        });
        if let Some(asking) = asking.as_deref_mut() {
            let took = now.since(came.received_at);
            asking.note(|| match (answered, out.get(start..).map(Packet::parse)) {
                (Ok(code), Some(Ok(reply))) => {
                    format!("{code} after {took:?}: {}", reply::shown(&reply, &came.plan.dictionary))
                }
                (Err(why), _) => format!("no answer after {took:?}: {}", why.label()),
                (Ok(code), _) => format!("{code} after {took:?}"),
            });
            Front::traced(&mut self.effects, asking);
        }
        match answered {
            Ok(code) => {
                self.count(code, packet.code(), asking.map(|asking| asking.method));
                self.figures.answered(came.received_at, now);
                let bytes = start..out.len();
                self.effects.push_back(Effect::Send {
                    path: *came.path,
                    bytes,
                });
            }
            Err(why) => {
                out.truncate(start);
                self.duplicates.forget(mark);
                self.dropped(Some(came.client), *came.path, why);
            }
        }
    }

    /// Appends the answer.
    fn write(
        &mut self,
        plan: &Plan,
        client: &Client,
        packet: &Packet<'_>,
        outcome: Outcome,
        asking: Option<&mut Asking>,
        out: &mut Vec<u8>,
    ) -> Result<Code, Dropped> {
        let code = match outcome {
            Outcome::Accept => Code::ACCESS_ACCEPT,
            Outcome::Reject => Code::ACCESS_REJECT,
            Outcome::Recorded => Code::ACCOUNTING_RESPONSE,
            // RFC 5997 section 3: as the port answers.
            Outcome::Alive if plan.port == Port::Accounting => Code::ACCOUNTING_RESPONSE,
            Outcome::Alive => Code::ACCESS_ACCEPT,
            Outcome::Silence(why) => return Err(why),
        };
        let start = out.len();
        let written = match (outcome, asking.as_deref()) {
            (Outcome::Accept, Some(asking)) => self.write_accept(plan, client, packet, asking, out),
            (Outcome::Reject, Some(asking)) => self.write_reject(client, packet, asking, out),
            _ => seal(Writer::reply(out, code, packet), client, packet),
        };
        let Err(why) = written else { return Ok(code) };
        out.truncate(start);
        let Some(asking) = asking else {
            return Err(Dropped::Malformed);
        };
        asking.note(|| format!("the answer cannot be written: {why}"));
        self.figures.unwritable += 1;
        let bare = seal(Writer::reply(out, Code::ACCESS_REJECT, packet), client, packet);
        bare.map(|()| Code::ACCESS_REJECT).map_err(|_| Dropped::Malformed)
    }

    fn write_accept(
        &mut self,
        plan: &Plan,
        client: &Client,
        packet: &Packet<'_>,
        asking: &Asking,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        let mut items = asking.listed(packet, plan);
        items.extend(asking.items.iter());
        let mut writer = Writer::reply(out, Code::ACCESS_ACCEPT, packet);
        let accept = Accept {
            items: &items,
            granted: asking.granted.as_ref(),
            message: asking.message.as_deref(),
        };
        accept.write(&mut writer, &plan.dictionary, &client.secret, &mut self.chance)?;
        seal(writer, client, packet)
    }

    fn write_reject(
        &mut self,
        client: &Client,
        packet: &Packet<'_>,
        asking: &Asking,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        let mut writer = Writer::reply(out, Code::ACCESS_REJECT, packet);
        let message = asking.message.as_deref();
        if matches!(asking.method, Method::MsChap | Method::MsChap2 | Method::Change)
            && let Ok(offer) = Offer::read(packet, &client.secret)
        {
            reply::ms_chap_error(&mut writer, &offer, asking.why, message, &mut self.chance)?;
        }
        if let Some(message) = message {
            reply::reply_message(&mut writer, message)?;
        }
        seal(writer, client, packet)
    }

    fn count(&mut self, code: Code, asked: Code, method: Option<Method>) {
        match (asked, method) {
            (Code::ACCESS_REQUEST, Some(method)) => self.figures.verdict(method, code == Code::ACCESS_ACCEPT),
            (Code::ACCOUNTING_REQUEST, _) => self.figures.recorded += 1,
            _ => self.figures.statuses += 1,
        }
    }
}

fn seal(mut writer: Writer<'_>, client: &Client, packet: &Packet<'_>) -> Result<(), Unwritable> {
    writer.proxy_states(packet)?;
    writer.finish(&client.secret)?;
    Ok(())
}
