//! What enters the hub as a message: a client's PUB or HPUB, and what the server itself sends.

use super::deliver::{fill_head, push_number, Frame, NOBODY};
use super::matched::Found;
use super::subscription::Owner;
use super::Hub;
use crate::publish::{Outgoing, Publisher, Sent};
use crate::subject;
use crate::wire::Publish;

impl Hub {
    /// A client's message whose payload is complete.
    pub(super) fn receive(&mut self, slot: u32, message: &Publish<'_>) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        conn.traffic.in_msgs += 1;
        conn.traffic.in_bytes += message.body.len() as u64;
        let (options, account, from_id) = (conn.options, conn.account, conn.id);
        if options.pedantic && !subject::valid(message.subject, false) {
            self.floor.write(slot, &[b"-ERR 'Invalid Publish Subject'\r\n"]);
        }
        // All reserved names begin with one of two bytes, so others pay one comparison.
        if matches!(message.subject.first(), Some(b'$' | b'_')) && reserved_target(message.subject) {
            return self.violation(slot, b"Publish to ", message.subject);
        }
        if matches!(message.reply.first(), Some(b'$' | b'_')) && reserved_reply(message.reply) {
            return self.violation(slot, b"Publish with Reply of ", message.reply);
        }
        if options.verbose {
            self.floor.write(slot, &[b"+OK\r\n"]);
        }
        let Some(found) = self.find(account, message.subject) else { return };
        // Not touched for what is copied as it came: reading back a vector that was just moved stalls behind the last copy.
        let mut buffer = Vec::new();
        let head: &[u8] = if message.verbatim.is_empty() {
            buffer = std::mem::take(&mut self.head);
            let header_text = if message.header_size > 0 { message.header_text } else { &[] };
            fill_head(&mut buffer, message.reply, header_text, message.size_text);
            &buffer
        } else {
            &[]
        };
        let (headers, payload) = message.body.split_at_checked(message.header_size).unwrap_or((&[], message.body));
        let frame = Frame {
            subject: message.subject,
            prepared: true,
            reply: message.reply,
            head,
            verbatim: message.verbatim,
            headers: &[headers],
            header_size: message.header_size,
            payload: &[payload],
            size: message.body.len(),
            from: slot,
            from_id,
        };
        let sent = match self.accounts.get(account as usize) {
            Some(account) => self.floor.deliver(account.cache.get(found), &frame),
            None => Sent::default(),
        };
        if message.verbatim.is_empty() {
            self.head = buffer;
        }
        if sent.receivers == 0 && options.no_responders && options.headers && !message.reply.is_empty() {
            self.no_responders(slot, account, message);
        }
        self.settle();
    }

    /// Who gets a message on a subject, remembered for the next message.
    #[inline]
    pub(super) fn find(&mut self, number: u32, subject: &[u8]) -> Option<Found> {
        let account = self.accounts.get_mut(number as usize)?;
        let memo = &mut self.memo;
        if memo.valid && memo.account == number && memo.epoch == account.cache.epoch && memo.subject == subject {
            return Some(Found::Cached(memo.index));
        }
        let found = account.find(&self.floor.subs, subject);
        memo.valid = false;
        if let Found::Cached(index) = found {
            memo.subject.clear();
            memo.subject.extend_from_slice(subject);
            memo.account = number;
            memo.epoch = account.cache.epoch;
            memo.index = index;
            memo.valid = true;
        }
        Some(found)
    }

    /// Tell a publisher on its own inbox that nobody listens.
    fn no_responders(&mut self, slot: u32, account: u32, message: &Publish<'_>) {
        let Some(account) = self.accounts.get_mut(account as usize) else { return };
        let found = account.find(&self.floor.subs, message.reply);
        let matched = account.cache.get(found);
        let own = matched.targets.iter().take(matched.plain).find(|target| target.owner == Owner::Conn(slot));
        let Some(sub) = own.and_then(|target| self.floor.subs.get(target.sub)) else { return };
        // NATS/1.0 503, Nats-Subject and the line ends take 32 bytes beside the subject.
        let mut size = Vec::new();
        push_number(&mut size, message.subject.len() + 32);
        let sid = sub.sid.clone();
        self.floor.write(
            slot,
            &[
                b"HMSG ",
                message.reply,
                b" ",
                &sid,
                b" ",
                &size,
                b" ",
                &size,
                b"\r\nNATS/1.0 503\r\nNats-Subject: ",
                message.subject,
                b"\r\n\r\n\r\n",
            ],
        );
    }
}

impl Publisher for Hub {
    fn publish(&mut self, account: &str, message: Outgoing<'_>) -> Sent {
        let Some(number) = self.names.get(account).copied() else { return Sent::default() };
        let Some(account) = self.accounts.get_mut(number as usize) else { return Sent::default() };
        let found = account.find(&self.floor.subs, message.to);
        let matched = account.cache.get(found);
        if matched.is_empty() {
            return Sent::default();
        }
        let header_size: usize = message.headers.iter().map(|piece| piece.len()).sum();
        let size = header_size + message.payload.iter().map(|piece| piece.len()).sum::<usize>();
        let head = &mut self.head;
        head.clear();
        if !message.reply.is_empty() {
            head.extend_from_slice(message.reply);
            head.push(b' ');
        }
        if header_size > 0 {
            push_number(head, header_size);
            head.push(b' ');
        }
        push_number(head, size);
        head.extend_from_slice(b"\r\n");
        let frame = Frame {
            subject: message.subject,
            prepared: message.to == message.subject,
            reply: message.reply,
            head,
            verbatim: &[],
            headers: message.headers,
            header_size,
            payload: message.payload,
            size,
            from: NOBODY,
            from_id: 0,
        };
        let sent = self.floor.deliver(matched, &frame);
        self.settle();
        sent
    }

    fn interest(&mut self, account: &str, subject: &[u8], group: &[u8]) -> bool {
        let Some(number) = self.names.get(account).copied() else { return false };
        let Some(account) = self.accounts.get_mut(number as usize) else { return false };
        let found = account.find(&self.floor.subs, subject);
        if group.is_empty() {
            return !account.cache.get(found).is_empty();
        }
        let Some(queue) = account.queue_number(group) else { return false };
        account.cache.get(found).group(queue).is_some()
    }
}

fn reserved_target(subject: &[u8]) -> bool {
    [b"_GR_.".as_slice(), b"$GR.", b"$NRG."].iter().any(|prefix| subject.starts_with(prefix))
}

fn reserved_reply(reply: &[u8]) -> bool {
    [b"$JS.ACK.".as_slice(), b"_R_.", b"_GR_.", b"$GR."].iter().any(|prefix| reply.starts_with(prefix))
}
