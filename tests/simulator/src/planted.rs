//! Bugs to plant, one at a time, in a copy of the source: the simulator must notice each (`tests/simulator/plant`).

/// A bug: its name, what it is, where, the text to find (once) and what stands there instead.
pub struct Planted {
    pub name: &'static str,
    pub what: &'static str,
    pub file: &'static str,
    pub find: &'static str,
    pub replace: &'static str,
}

macro_rules! planted {
    ($($name:literal: $what:literal, $file:literal, $find:literal => $replace:literal;)+) => {
        pub const PLANTED: &[Planted] =
            &[$(Planted { name: $name, what: $what, file: concat!("crates/evergate-proto/src/", $file), find: $find, replace: $replace }),+];
    };
}

planted! {
    "first-complete-ends-all": "the old gateway: a thread is counted, not its requests, so the first COMPLETE makes it idle",
        "clients/relay_back.rs", "self.book.end(n, trace));" => "(trace, self.book.end_where(n, |_| true).pop()).1);";
    "disconnect-leaves-busy": "the old gateway: CONNECT then DISCONNECT leaves the thread busy for ever",
        "clients/book.rs", "let was = std::mem::take(&mut conversation.connected);" => "let was = false;";
    "session-counts-as-idle": "the old gateway: a session between two requests is idle",
        "clients/client.rs", "} else if self.book.sessions() > 0 {" => "} else if self.book.sessions() > 99 {";
    "stale-generation": "a reply for the slot's last client is delivered to the one that has the slot now",
        "clients/from_bus.rs", "slot.generation == to.generation\n                    && " => "true\n                    && ";
    "generation-stands-still": "a slot's next client has the same generation",
        "clients/table.rs", "place.generation = place.generation.wrapping_add(1);" => "";
    "relay-after-close": "a request that comes after our Close is relayed",
        "clients/client/reading.rs", "if matches!(self.stage, Stage::Open) {\n                    self.message(cx, text, judged);"
        => "if true {\n                    self.message(cx, text, judged);";
    "partial-frame-lost": "half a frame is forgotten while something is pending",
        "clients/client/reading.rs", "self.decoder = decoder;" => "self.decoder = if self.book.pending() > 0 { crate::websocket::decoder::Decoder::new() } else { decoder };";
    "mask-not-turned": "a payload cut in two is unmasked from the mask's first byte again",
        "websocket/decoder.rs", "frame.mask.rotate_left(chunk.len() % 4);" => "";
    "double-complete": "a COMPLETE ends two requests of one threadTrace",
        "clients/relay_back.rs", "self.book.end(n, trace));" => "{\n                    self.book.end(n, trace);\n                    self.book.end(n, trace)\n                });";
    "404-wrong-conversation": "the router's 404 ends the oldest conversation",
        "clients/relay_back.rs", "let ended = self.book.end_where(n, |_| true);\n                if"
        => "let n = self.book.conversations().next().map_or(n, |c| c.n);\n                let ended = self.book.end_where(n, |_| true);\n                if";
    "session-lost-on-error": "a method error ends the session",
        "clients/relay_back.rs", "if matches!(code, 307 | 417) && of_session(self)" => "if matches!(code, 307 | 400..) && of_session(self)";
    "408-leaves-requests": "requests of a session whose keep-alive ran out stay pending",
        "clients/relay_back.rs", "done.unanswered.extend(self.book.end_where(n, |_| true));" => "";
    "backlog-overtakes": "an envelope of the backlog goes before an earlier one of its thread",
        "clients/threads.rs", "let first = thread.waiting.pop_front()?;" => "let first = thread.waiting.pop_back()?;";
    "newcomer-overtakes": "an envelope goes past those of its thread that wait",
        "clients/threads.rs", "thread.is_occupied() || !thread.waiting.is_empty())" => "thread.is_occupied())";
    "newcomer-takes-the-room": "a small envelope goes past larger ones that wait for room",
        "clients/relay.rs", "kept.is_some() || self.book.is_request_ready()" => "kept.is_some()";
    "turn-by-readiness": "of those that wait for room, the one goes first whose thread was free first, not the one that came first",
        "clients/threads.rs", "ready.push(Reverse((first.number, at)));" => "ready.push(Reverse((self.next_number, at)));";
    "disconnect-waits-for-room": "a DISCONNECT waits behind requests that wait for room",
        "clients/relay.rs", "full = true;\n                continue;" => "return;";
    "freed-not-told": "what waits for its thread is forgotten when that is free",
        "clients/threads.rs", "self.freed.push(at);" => "";
    "freed-too-soon": "found by this simulator: a thread is free between the end of its CONNECT and the beginning of its session",
        "clients/threads.rs", "self.freed.push(at);" => "self.turn(at);";
    "turn-not-passed-on": "what waits behind an envelope that was relayed has no turn",
        "clients/threads.rs", "self.table[turn.at].has_turn = false;\n        self.turn(turn.at);" => "self.table[turn.at].has_turn = false;";
    "forgotten-answers": "a conversation that is over is found again as long as its place is there",
        "clients/conversations.rs", ".filter(|(_, conversation)| !conversation.forgotten)" => "";
    "ended-is-indexed": "a request that has ended is found again among many",
        "clients/pendings.rs", "index.remove(&key(at, &ended));" => "";
    "pack-loses-names": "a table of names that is packed knows where the names stood before",
        "clients/by_name.rs", "*self = Self::default();" => "let index = self.index.take();\n            *self = Self { index, ..Self::default() };";
    "disconnect-not-sent": "a worker is not told that its session's client is gone",
        "clients/closing.rs", "self.disconnect_worker(cx, conversation);" => "let _ = conversation;";
    "drain-closes-unsent": "the drain closes a client with reply bytes that the kernel has not taken",
        "clients/client/gap.rs", "(self.class() == Some(Class::Idle) && self.decoder.is_clean() && self.outbound.is_delivered())"
        => "(matches!(self.class(), Some(Class::Idle | Class::Sending)) && self.book.conversations().next().is_none() && self.decoder.is_clean() && !self.paused)";
    "drain-cuts-half-frames": "half a message is no reason to wait",
        "clients/client/gap.rs", "(self.class() == Some(Class::Idle) && self.decoder.is_clean()" => "(self.class() == Some(Class::Idle)";
    "drain-closes-unread": "found by an attacker: the drain closes a client whose request lies unread because the core is full",
        "clients/client.rs", "} else if self.paused || self.book.backlog() > 0 {" => "} else if self.book.backlog() > 0 {";
    "no-room-not-counted": "who waits for room on the bus is counted among those who wait for replies, and is not said to",
        "clients/client/gauges.rs", "Class::WaitingForRoom => &counts.waiting_for_room," => "Class::WaitingForRoom => &counts.waiting_for_replies,";
    "header-never-ends": "the empty line of a header that comes line by line is taken for one of its lines",
        "websocket/header.rs", "parse_headers(line, &mut [EMPTY_HEADER]) == Ok(Status::Partial)" => "parse_headers(line, &mut [EMPTY_HEADER]).is_ok()";
    "resumed-at-old-gap": "a client that is read from again is closed before what it sent meanwhile has been read",
        "clients/client.rs", "self.times.activity = Stamp::at(now_ms);" => "";
    "pace-cuts-idle": "the drain's pace is never raised, so that idle clients are cut at the deadline",
        "drain.rs", "self.options.closes_per_second.max(self.left as f64 / seconds)" => "{ let _ = seconds; self.options.closes_per_second }";
    "pace-not-kept": "the drain closes all that are at a gap at once",
        "drain.rs", "if self.allowance < 1.0 {" => "if self.allowance < -1e9 {";
    "drain-stands-still": "whoever is at a gap waits for a second, whatever the quiet time",
        "clients/limits.rs", "gap_since_ms + self.drain_quiet_ms" => "gap_since_ms + self.drain_quiet_ms.max(1_000)";
    "drain-goes-in-leaps": "the jitter of a drain's pace has four times its bounds",
        "drain.rs", "1.0 + JITTER * " => "1.0 + 4.0 * JITTER * ";
    "second-half-in-a-rush": "who is left at half of a drain is closed at once, whatever the pace",
        "drain.rs", "self.gone_by_ms = self.half_ms + self.options" => "self.gone_by_ms = self.half_ms + 0 * self.options";
    "never-silenced": "who never pauses is read from until the drain's deadline",
        "clients/client.rs", "self.has_room(cx) && !self.is_silenced(cx)" => "self.has_room(cx)";
    "session-silenced": "behind half of a drain a client is not read from though only it can end its session",
        "clients/client/gap.rs", "            && self.book.sessions() == 0\n" => "";
    "connect-silenced": "behind half of a drain a client is not read from though it is about to have a session",
        "clients/client/gap.rs", "            && self.book.connecting() == 0\n" => "";
    "long-message-silenced": "a message that began before half of a drain is not read to its end",
        "clients/client/gap.rs", "            && self.times.message_since.is_none()\n" => "";
    "late-message-waited-for": "a client that sends without pause is read from as long as it is amid a message",
        "clients/client/reading.rs", "self.times.message_since.is_none() && !self.is_silenced(cx)" => "self.times.message_since.is_none()";
    "forced-gap-undelivered": "a forced gap does not wait until the replies are delivered",
        "clients/client/gap.rs", " && self.book.backlog() == 0 && self.outbound.is_delivered()" => " && self.book.backlog() == 0";
    "forced-gap-unanswered": "a forced gap does not wait for the answers",
        "clients/client/gap.rs", "self.is_silenced(cx) && self.book.pending() == 0" => "self.is_silenced(cx)";
    "forced-gap-leaves-backlog": "a forced gap does not wait for what waits to be relayed",
        "clients/client/gap.rs", " && self.book.backlog() == 0" => "";
    "unread-relayed": "what lay unread at a forced gap is relayed behind the Close",
        "clients/client/reading.rs", "if matches!(self.stage, Stage::Open) {\n                    self.message(cx, text, judged);"
        => "if matches!(self.stage, Stage::Open) || cx.drain.as_ref().is_some_and(crate::drain::Drain::is_half_over) {\n                    self.message(cx, text, judged);";
    "crossed-counted-twice": "a request that crossed our Close is counted twice",
        "clients/closing.rs", "counters::add(&cx.counts().crossed_close, 1);" => "counters::add(&cx.counts().crossed_close, 2);";
    "cuts-smallest": "over core_bytes_max the smallest holder is closed",
        "clients/excess.rs", "Stage::Open)).max_by_key(|c| c.bytes())" => "Stage::Open)).min_by_key(|c| c.bytes())";
    "cuts-smallest-listed": "over core_bytes_max the smallest of those who hold much is closed",
        "clients/holders.rs", "self.open.last()" => "self.open.first()";
    "taken-when-full": "messages are taken from the bus though the core is full",
        "clients/from_bus.rs", "if self.context.is_core_full() {\n                return at + 1;" => "if false {\n                return at + 1;";
    "holders-left-behind": "who held much once stays on the list of those who do",
        "clients/holders.rs", "list.remove(&(bytes, slot));" => "";
    "closing-counts-as-open": "the bytes of who begins to close are still counted as an open client's",
        "clients/holders.rs", "if !open {\n                let others_bytes" => "if !open && !here {\n                let others_bytes";
    "slow-too-late": "a slow consumer may have ten bytes more unsent",
        "clients/client.rs", "let slow = self.outbound.bytes() > cx.limits.outbound_bytes_max;"
        => "let slow = self.outbound.bytes() > cx.limits.outbound_bytes_max + 10;";
    "half-close-forgotten": "our side is not shut down once all is said and sent",
        "clients/table.rs", "cx.output.half_close.push(slot);" => "";
    "resumed-late": "who waits for the core's bytes is not looked at again by the tick",
        "clients/table.rs", "for slot in self.paused.clone() {" => "for slot in self.paused.clone().into_iter().skip(1) {";
    "paused-forgotten": "who waits for the core's bytes alone is not looked at when there is room again",
        "clients/table.rs", "self.looks_at_paused |= client.is_paused() && cx.is_core_full();" => "";
    "line-forgotten": "who was first in a drain's line when the pace did not allow its turn has lost its place",
        "clients/table.rs", "drain.back_to_front(slot);" => "let _ = drain;";
    "line-lets-nobody-back": "who left its gap while it stood in a drain's line is not let in again",
        "clients/timers.rs", "let was_in_line = std::mem::take(&mut self.in_line);" => "let was_in_line = self.in_line;";
    "push-sent-twice": "messages written while others are unconfirmed are written again",
        "redis/outbox.rs", "        self.used.extend(self.waiting.drain(..taken).map(|push| push.message));"
        => "        if self.sent.len() < 4 {\n            self.waiting.clear();\n        }";
    "unconfirmed-told-twice": "what was not confirmed when a link broke is told again at its next loss",
        "redis/outbox.rs", ".drain(..)\n            .flat_map(|sent| match sent {\n                Sent::Push { tickets, .. } => tickets,"
        => ".iter()\n            .flat_map(|sent| match sent {\n                Sent::Push { tickets, .. } => tickets.clone(),";
    "escaped-size": "a character of four bytes counts nine, not twelve",
        "json/escape.rs", "0xF0.. => 8," => "0xF0.. => 5,";
    "lost-reply-not-told": "a request in doubt after the loss of a link is looked at only when it is old",
        "clients/failing.rs", "due_ms = due_ms.min(give_up_ms);" => "";
    "emptied-spares-sessions": "a Redis that came back empty ends only what has no worker",
        "clients/failing.rs", "domain == 0 || conversation.worker_domain == domain"
        => "conversation.worker.is_none() && (domain == 0 || conversation.worker_domain == domain)";
    "bytes-leak": "half a message of a client that is over is still counted",
        "clients/client.rs", "if matches!(self.stage, Stage::Gone) {\n            return 0;"
        => "if matches!(self.stage, Stage::Gone) {\n            return self.decoder.bytes_held();";
    "slots-last-first": "the slot that was freed last is used first",
        "clients/table.rs", "self.free.push_back(slot);" => "self.free.push_front(slot);";
    "ping-after-close": "found by this simulator: a ping follows the Close of a client that a tick found slow",
        "clients/timers.rs", "if matches!(self.stage, Stage::Open)\n            && !self.is_paused()\n            && self.times.ping_since.is_none()"
        => "if !self.is_paused()\n            && self.times.ping_since.is_none()";
    "delivered-when-taken": "issue 11, 1: a reply counts as delivered once the kernel has taken it",
        "clients/outbound.rs", "self.acknowledged >= self.reply_end" => "self.taken >= self.reply_end";
    "slow-reader-dead": "issue 11, 2: only a pong shows that a client is alive, however much it takes",
        "clients/timers.rs", "if cx.limits.is_enough(taken) {" => "if false {";
    "slow-reader-immortal": "whoever takes one byte while it owes a pong is alive",
        "clients/timers.rs", "if cx.limits.is_enough(taken) {" => "if taken > 0 {";
    "stream-given-up": "issue 11, 3: a request is given up by its age, though it keeps talking",
        "clients/relay_back.rs", "conversation.heard(cx.now_ms);" => "";
    "upload-cut": "issue 11, 4: a message is cut by its age, though bytes come steadily",
        "clients/client/reading.rs", "if self.decoder.gathered() != gathered {" => "if false {";
    "session-in-parallel": "issue 11, 5: requests of a session are relayed side by side",
        "clients/conversation.rs", "!self.pending.is_empty() && (self.connected || self.pending" => "!self.pending.is_empty() && (self.pending";
    "disconnect-overtakes": "issue 11, 5: a DISCONNECT is relayed while its session has something under way",
        "clients/relay.rs", "if self.book.must_wait(thread) {" => "if (counted > 0 || self.book.session_of(thread).is_none()) && self.book.must_wait(thread) {";
    "cut-with-1012": "issue 11, 18: who is cut at the deadline is told 1012, as if nothing of its had been relayed",
        "clients/timers.rs", "self.close(cx, CloseCode::GOING_AWAY, \"this gateway is being drained, and" => "self.close(cx, CloseCode::RESTART, \"this gateway is being drained, and";
    "judged-unlooked": "issue 11, 1: who is judged is not looked at first: what it sent lies unread, what it was sent is on its way",
        "clients/timers.rs", "        if is_due {\n            self.ask(cx);" => "        if is_due {\n            self.looked(cx, 0);";
    "turn-without-quiet": "found by this simulator: a look before a drain's Close reads a message, and the Close follows it at once",
        "clients/timers.rs", "if self.is_closable(cx) {\n                counters" => "if self.closable_from_ms(cx).is_some() {\n                counters";
    "closed-on-the-way": "a closing client is given up after close_timeout, though it still takes what it is sent",
        "clients/closing.rs", "} else if progressed {" => "} else if false && progressed {";
    "late-handshake-lost": "found by an attacker: a client that shakes hands after the deadline is served, and cut in silence",
        "clients/timers.rs", "Stage::Handshake(_) => self.refuse(cx, 503, &ending(cx, REFUSED_AT_DEADLINE))," => "Stage::Handshake(_) => {}";
    "stop-spares-closing": "found by an attacker: a stop during a drain does not count who closed by itself and still takes its reply",
        "clients/timers.rs", "Stage::Closing(_) if draining && !self.outbound.is_delivered() => self.count_cut(cx, \"by a stop\")," => "";
    "leaps-forgotten": "behind a proxy: a closing client that acknowledges in leaps is given up between two of them",
        "clients/closing.rs", "let leap_ms = if is_done { 0 } else { 2 * u64::from(self.outbound.acknowledged_every_ms) };" => "let leap_ms = 0;";
    "closing-for-ever": "a closing client that takes a byte now and then is never given up",
        "clients/closing.rs", "!limits.is_enough(taken)" => "taken == 0";
    "end-drops-replies": "a client that ends its own side loses what it was sent",
        "clients/closing.rs", "self.begin_closing(cx, reason, false);" => "return self.broke(cx, reason);";
    "end-is-the-end": "a closing client that ends its own side loses what it was sent",
        "clients/closing.rs", "if closing.peer_ended && is_done {" => "if closing.peer_ended {";
    "disconnect-relayed": "issue 11, 5: a DISCONNECT without a session goes to the router",
        "clients/relay.rs", "if only_disconnects && " => "if false && only_disconnects && ";
    "fin-is-a-byte": "found by this simulator: our FIN hides the one byte that the peer has acknowledged since the last look",
        "clients/closing.rs", "unacknowledged.saturating_sub(u64::from(self.half_closed))" => "unacknowledged";
    "half-message-kept": "found by this simulator: half a message of a client that ended its side is kept until it is given up",
        "clients/closing.rs", "closing.peer_ended = true;\n            self.forget_unfinished();" => "closing.peer_ended = true;";
    "rate-not-counted": "issue 12, 2: a token costs nothing, so that nobody is too fast",
        "clients/rate.rs", "self.full_ns = full_ns;" => "";
    "rate-saves-up": "who has been silent for long may send all of it at once",
        "clients/rate.rs", "self.full_ns.max(now) + rate.token_ns" => "self.full_ns + rate.token_ns";
    "throttled-not-counted": "who is told 429 again is not counted for the log",
        "clients/turned_away.rs", "named.more += 1;" => "";
    "disconnect-too-fast": "a DISCONNECT beyond the rate does not end its session",
        "clients/admission.rs", "if traces.is_empty() {\n            return false;" => "if traces.is_empty() {\n            return true;";
    "proxy-limited": "behind a proxy that names nobody all share one rate",
        "clients/addresses.rs", "entry.is_proxy || entry.messages.take(messages, now_ms)" => "entry.messages.take(messages, now_ms)";
    "v6-each-alone": "each of the 2^64 addresses of an IPv6 site has a rate of its own",
        "websocket/net.rs", "address.to_bits() & NETWORK_BITS" => "address.to_bits()";
    "address-anew": "who leaves and comes again has a fresh allowance",
        "clients/addresses.rs", "entry.clients -= 1;" => "entry.clients -= 1;\n        entry.messages = Bucket::default();";
    "orphans-not-counted": "issue 12, 2: what clients that left have on the bus counts against nobody",
        "clients/closing.rs", "self.orphan_all(cx, &book);" => "for c in book.conversations() { if c.unanswered.messages > 0 { cx.outstanding.answered(self.place(), c.unanswered); } }";
    "orphans-not-refused": "issue 12, 2: connect, request, abort, and again, without end",
        "clients/relay.rs", "if self.has_too_many_orphans(cx) && " => "if false && ";
    "orphan-for-ever": "the reply to a client that left makes no room for its address",
        "clients/from_bus.rs", "            if let Some(to) = to {\n                self.end_orphan(to);" => "            if let Some(to) = to {\n                let _ = to;";
    "orphan-too-soon": "an orphan is not thought of any more after half of its time",
        "clients/admission.rs", "cx.now_ms + cx.limits.request_max_ms" => "cx.now_ms + cx.limits.request_max_ms / 2";
    "given-up-is-gone": "what is given up counts as answered, though the bus has it still",
        "clients/failing.rs", "self.gave_up(cx, n);" => "self.bus_lost(cx, n);";
    "given-up-in-session-kept": "found by this simulator: what is given up in a session that lives on is outstanding for ever",
        "clients/admission.rs", "if self.book.get(n).is_some_and(|conversation| conversation.pending.is_empty()) {"
        => "if self.book.get(n).is_some_and(|conversation| conversation.pending.is_empty() && !conversation.connected) {";
    "emptied-keeps-orphans": "a Redis that came back empty is still thought to hold what clients left there",
        "clients/from_bus.rs", "self.context.outstanding.end_all_orphans(self.context.now_ms);" => "";
    "full-bus-relays": "issue 12, 2: with a full bus what has been read is relayed all the same",
        "clients/relay.rs", "        full || kept.is_some() ||" => "        full || kept == Some(Limit::router_queue_max) ||";
    "full-bus-relays-backlog": "with a full bus what waited is relayed as soon as something ends",
        "clients/relay.rs", "if !may_give || (turn" => "if (turn";
    "full-bus-reads": "with a full bus everybody is read from",
        "clients/client.rs", "                && self.may_give(cx)\n" => "";
    "full-bus-silences": "who fills the bus silences its neighbours",
        "clients/admission.rs", "(room == Room::Newcomers && unanswered > 0)" => "room == Room::Newcomers";
    "full-bus-overflows": "at twice the bound newcomers still send",
        "clients/admission.rs", "if room == Room::Nobody ||" => "if (room == Room::Nobody && unanswered > 0) ||";
    "bus-room-not-seen": "who waits for room on the bus is forgotten when there is some",
        "clients/timers.rs", "if self.waits_for_bus {\n                    self.relay_backlog(cx);" => "if false {\n                    self.relay_backlog(cx);";
    "bus-room-unread": "who was not read from for want of room on the bus is not looked at when there is some",
        "clients/table.rs", "let looks_for_bus = has_room && self.looks_at_paused_for_bus && " => "let looks_for_bus = false && ";
    "router-list-unseen": "issue 12, 2: nobody looks how long the router's list is",
        "clients/admission.rs", "let is_long = cx.router.is_long(max);" => "let is_long = false;";
    "router-list-silences": "who fills the router's list silences its neighbours",
        "clients/admission.rs", "(is_long && unanswered > 0 && cx.router.has(number))" => "is_long";
    "router-list-given-again": "a message counts as taken by the router once Redis has it",
        "clients/router_list.rs", "self.left.max(self.answered.saturating_sub(length));" => "self.answered;";
    "router-list-outlives-link": "what was under way when a link broke stays in the router's list for ever",
        "clients/router_list.rs", "(0, self.given, self.given)," => "(self.told, self.answered, self.left),";
    "router-list-others-unseen": "of the router's list only our own messages count",
        "clients/router_list.rs", "self.told + self.given - self.answered" => "self.given - self.left";
    "router-large-together": "large messages go to the router side by side",
        "clients/router_list.rs", "        self.has(self.last_large)" => "        false";
    "restart-missed": "a Redis that came back empty is taken for the one that was there",
        "redis/opening.rs", "let emptied = greeted.id < known.id &&" => "let emptied = greeted.id < 0 &&";
    "restart-found-twice": "each of the two links of a domain finds the same restart",
        "redis/opening.rs", " && domain.known.restarts == known.restarts;" => ";";
    "unsent-kept": "what was never written waits for a Redis that is away",
        "redis/opening.rs", "let unsent = self.domains[index].outbox.take_unsent();" => "let unsent: Vec<crate::redis::outbox::Ticket> = Vec::new();";
    "away-not-told": "messages are taken for a domain that is away",
        "redis/links.rs", "context.take_messages(link.domain, state != LinkState::Away);" => "context.take_messages(link.domain, true);";
    "pops-lost-untold": "nobody is told that replies may be lost",
        "redis/popping.rs", "        clients.pops_lost();\n" => "";
    "pops-back-untold": "nobody is told that replies may come again",
        "redis/opening.rs", "if self.domains[index].pops_lost {" => "if false {";
    "late-word-counts": "what is told of a connection that was given up counts for the one that is there",
        "redis/links.rs", "self.generation(link) == Some(generation)" => "self.generation(link).is_some() || generation > u32::MAX - 1";
    "attempt-for-ever": "an attempt to connect that hangs is never given up",
        "redis/links.rs", "                    if now_ms >= until_ms =>\n                {" => "                    if now_ms >= until_ms + 100_000_000 =>\n                {";
    "up-before-greeted": "a link counts as up when its account has been accepted, before Redis has done what the link is for",
        "redis/greeting.rs", "Ok(true) => (self.step, self.left) = (Step::Probe, 1)," => "Ok(true) => return Ok(Some(Greeted { id: self.id, lacks_probe: false })),";
    "talker-heard": "found by an attacker: what answers in place of Redis fills the core's memory before it has accepted the account",
        "redis/greeting.rs", "self.read_bytes.saturating_add(needed_bytes) > ANSWERS_BYTES_MAX" => "needed_bytes == usize::MAX";
    "popped-when-full": "replies are received while the core is full",
        "redis/links.rs", "(Stage::Up { .. }, Half::Pop) => !is_full || self.ending," => "(Stage::Up { .. }, Half::Pop) => true,";
    "answers-unread": "confirmations are never waited for",
        "redis/pushing.rs", "domain.listens |= quiet_ms >= QUIET_MS || self.ending || !is_confirmed;" => "let _ = (quiet_ms, QUIET_MS);";
    "lost-router-untold": "what was under way to the router when a link broke counts for ever",
        "redis/pushing.rs", "        let unconfirmed = domain.outbox.take_unconfirmed();\n        hear_of_router(clients, index, &[RouterNews::Lost]);"
        => "        let unconfirmed = domain.outbox.take_unconfirmed();";
    "drain-without-grace": "a drain begins at the signal, whatever its grace",
        "lifecycle.rs", "if orders.drains() > 0 && now_ms >= orders.drain_start_ms" => "if orders.drains() > 0";
    "drain-before-closed": "clients are told of the drain before the share of the port is closed",
        "lifecycle.rs", "                if listener == Listener::Open {\n                    return Step::CloseListener;\n                }\n                self.stage = Stage::Draining"
        => "                self.stage = Stage::Draining";
    "drain-leaves-queue": "a drain ends with its last client though more are established",
        "lifecycle.rs", "if is_empty && listener == Listener::Closed => drain" => "if is_empty && listener != Listener::Open => drain";
    "dismissed-amid-request": "an operator's wish closes a client with 1012 that waits for a reply",
        "clients/dismissing.rs", "{ self.quiet_from_ms(cx) }" => "{ Some(cx.limits.quiet_at_ms(self.times.activity.ms())) }";
    "dismissed-unread": "an operator's wish closes a client before what has come of it was read",
        "clients/timers.rs", "            || self.is_dismissible(cx)\n" => "            || self.leave_at_gap(cx)\n";
    "dismissed-next": "the end of a connection that is gone already is that of the next one in its slot",
        "clients/dismissing.rs", "if place.generation != generation {" => "if place.generation < generation {";
    "dismissed-never": "a client that an operator wants gone is not looked at",
        "clients/timers.rs", "if let Some(from_ms) = self.dismissible_from_ms(cx) {" => "if let Some(from_ms) = self.dismissible_from_ms(cx).filter(|_| cx.drain.is_some()) {";
    "cut-by-operator-with-1012": "whom an operator cuts off at once is told that nothing of its was relayed",
        "clients/dismissing.rs", "self.close(cx, CloseCode::GOING_AWAY, TOLD);" => "self.close(cx, CloseCode::RESTART, TOLD);";
    "census-skips": "between two pages of who is connected one is missing",
        "clients/census.rs", "found.next = Some(slot);" => "found.next = Some(slot + 1);";
    "cancel-unheard": "who drains goes on when that is cancelled",
        "lifecycle.rs", "if orders.drains() != drain => {" => "if orders.drains() > drain => {";
    "cancel-opens-nothing": "who has cancelled a drain takes nobody any more",
        "lifecycle.rs", "                self.stage = Stage::Starting;\n                Step::CancelDrain" => "                self.stage = Stage::Serving;\n                Step::CancelDrain";
    "cancel-keeps-line": "who stood in a drain's line stands in none in the next one, and is never let in",
        "clients/timers.rs", "(self.in_line, self.has_turn) = (false, false);" => "let _ = self.in_line;";
    "cancel-keeps-drain": "clients are closed at their gaps though the drain was cancelled",
        "clients/context.rs", "    pub(super) fn cancel_drain(&mut self) {\n        self.drain = None;" => "    pub(super) fn cancel_drain(&mut self) {\n        let _ = &self.drain;";
    "left-is-emptied": "what is queued where a successor goes on is taken from it, and it listens no more",
        "event_loop/accepting.rs", "if !orders.left.contains(listener.number) {" => "if orders.drain < u32::MAX {";
    "one-left-all-left": "where a successor goes on with one listener, the others are closed with whoever is queued there",
        "event_loop/accepting.rs", "if !orders.left.contains(listener.number) {" => "if orders.left.to_bits() == 0 {";
    "proxy-untrusted": "what a PROXY header says is believed, whoever sends it",
        "clients/table.rs", "opening == Opening::Request || self.context.limits.policy.trusts(peer);" => "opening == Opening::Request || !self.context.limits.policy.trusted_proxies.is_empty();";
    "proxy-unsummed": "a PROXY header is believed whose checksum is wrong",
        "websocket/proxy_header.rs", "if checksum.finalize() == u32::from_be_bytes(said) {" => "if said.len() == 4 {";
    "accepts-on-first": "the end of an accept is taken for that of the first listener's",
        "event_loop/accepting.rs", "self.accepting.listeners.get_mut(completion.op.place as usize)" => "self.accepting.listeners.first_mut()";
    "drain-for-ever": "a drain waits for its clients beyond its deadline",
        "lifecycle.rs", "if now_ms >= orders.drain_deadline_ms + self.options.close_timeout_ms {" => "if now_ms >= orders.drain_deadline_ms + 1_000_000 {";
    "deadline-twice": "at the deadline of a drain everybody is told at each tick",
        "lifecycle.rs", "self.stage = Stage::Draining { drain, deadline_passed: true };\n" => "let _ = drain;\n";
    "stop-forgets-drain": "a stop that overtakes a drain is told as a stop",
        "lifecycle.rs", "draining: orders.drain > 0 }" => "draining: false }";
    "stop-at-once": "a stop ends the core before anybody could read it",
        "lifecycle.rs", "if is_empty || now_ms >= until_ms => self.end" => "if is_empty || now_ms < until_ms => self.end";
    "disconnect-outstanding": "a DISCONNECT is outstanding, though nothing ever comes about it",
        "clients/relay.rs", "if envelope.messages.iter().any(|message| message.kind != Kind::Disconnect) {\n            self.gave" => "if true {\n            self.gave";
    "look-late": "a drain asks once a second whether a reply has arrived",
        "clients/timers.rs", "const DRAIN_DELIVERY_LOOK_MS: u64 = 20;" => "const DRAIN_DELIVERY_LOOK_MS: u64 = 1_000;";
    "utf8-at-the-end": "issue 12: text is judged once its message is whole, not in the frame that breaks it",
        "websocket/decoder.rs", "if self.is_text {\n            self.judge(is_whole && fin)?;" => "if self.is_text && is_whole && fin {\n            self.judge(true)?;";
    "answer-dropped": "found by this simulator: a slow consumer's Close takes the place of the answer to its handshake",
        "clients/outbound.rs", "self.answer_bytes = response.len().min(usize::from(u16::MAX)) as u16;" => "";
    "handshake-kept": "found by this simulator: who shakes hands while the router's list is long ends the process",
        "clients/table.rs", "matches!(client.stage, Stage::Open) && client.kept_by(&self.context) == Some" => "client.kept_by(&self.context) == Some";
    "unheard-in-shell": "found by this simulator: what waits for paused clients fills the core, and nobody is cut for it",
        "event_loop/mod.rs", "self.links.bytes() + self.leaving.bytes();" => "self.links.bytes() + self.leaving.bytes() + (0..64).map(|slot| self.held.bytes_of(slot) as u64).sum::<u64>();";
    "buffer-twice": "a buffer is given back twice",
        "event_loop/receiving.rs", "            self.ring.give_back(lent);\n            // Asked"
        => "            let Lent { pool, id, len } = lent;\n            self.ring.give_back(Lent { pool, id, len });\n            self.ring.give_back(lent);\n            // Asked";
    "buffer-lost-with-client": "what comes for a client that is given up keeps its buffer",
        "event_loop/receiving.rs", "            self.give_back(lent);\n            return self.leave" => "            return self.leave";
    "held-buffers-lost": "a client that goes takes the large buffers with it that wait for its turn",
        "event_loop/receiving.rs", "            if let Part::Lent(lent) = part {\n                self.ring.give_back(lent);" => "            if let Part::Lent(lent) = part {\n                let _ = lent;";
    "starved-for-ever": "who found no buffer is not received from again",
        "event_loop/receiving.rs", "self.held.starve(slot, pool);" => "let _ = pool;";
    "multishot-end-missed": "a receive that goes on has ended, and is not started again",
        "event_loop/receiving.rs", "        if !more {\n            self.held.listen(slot);" => "        if !more && matches!(result, Err(_)) {\n            self.held.listen(slot);";
    "cancelled-bytes-dropped": "bytes of a receive that was cancelled are dropped",
        "event_loop/receiving.rs", "(Ok(_), Some(lent)) => self.take(slot, lent)," => "(Ok(_), Some(lent)) if connection.is_cancelled => self.ring.give_back(lent),\n            (Ok(_), Some(lent)) => self.take(slot, lent),";
    "held-backwards": "of what waits of a client the last is heard first",
        "event_loop/held.rs", "let part = parts.pop_front()?;" => "let part = parts.pop_back()?;";
    "held-overtaken": "what comes of a client goes past what waits of it",
        "event_loop/receiving.rs", "if connection.is_held || connection.is_heavy || !may_read" => "if connection.is_heavy || !may_read";
    "end-overtakes": "the end of a client is heard before what it sent last",
        "event_loop/receiving.rs", "        if connection.is_held {\n            return self.held.keep(slot, end);\n        }\n" => "";
    "resumed-from-start": "a send that was short goes on where the one before it began",
        "event_loop/sending.rs", "self.sending.from.insert(slot, from + bytes as usize);" => "self.sending.from.insert(slot, bytes as usize);";
    "two-sends": "a client is sent something while something is being sent to it",
        "event_loop/sending.rs", "                self.sending.queue.push_back((slot, chunk));\n            }\n            Err" => "                self.sending.queue.push_back((slot, chunk.clone()));\n                self.sending.queue.push_back((slot, chunk));\n            }\n            Err";
    "shut-before-sent": "a client that is given up in the turn in which its Close was decided is shut down before that is on its way",
        "event_loop/leaving.rs", "self.leaving.unshut.push((slot, connection.generation));" => "self.ring.shutdown(connection.socket, Shutdown::Both);";
    "freed-while-sending": "a descriptor is given back while a send on it is under way",
        "event_loop/leaving.rs", "it.is_over && it.under_way.is_empty())" => "it.is_over && !it.under_way.contains(Kind::Receive) && !it.under_way.contains(Kind::WatchEnd))";
    "freed-while-receiving": "a descriptor is given back while a receive on it is under way",
        "event_loop/leaving.rs", "it.is_over && it.under_way.is_empty())" => "it.is_over && !it.under_way.contains(Kind::Send))";
    "closed-with-accept": "the share of the port is closed while an accept is under way",
        "event_loop/accepting.rs", "Stage::Closing if is_under_way =>" => "Stage::Closing if is_under_way && self.accepting.has_under_way(|accept| accept == Accept::Cancelled) =>";
    "queued-dropped": "who was accepted and waits when the share is closed is forgotten",
        "event_loop/accepting.rs", "        for (socket, opening) in std::mem::take(&mut self.accepting.queue) {\n            self.serve(socket, opening, may_wait);" => "        for (socket, opening) in std::mem::take(&mut self.accepting.queue) {\n            let _ = (socket, opening);";
    "accept-not-again": "without descriptors for a moment nobody is accepted any more",
        "event_loop/accepting.rs", "(self.until_ms, self.has_room) = (now_ms + PAUSE_MS, false);" => "(self.until_ms, self.has_room) = (now_ms + 1_000_000 * PAUSE_MS, false);";
    "batch-rest-lost": "what the kernel did not take of a batch for Redis is lost",
        "event_loop/wires.rs", "Ok(bytes) if !wire.is_over && wire.sent" => "Ok(bytes) if false && wire.sent";
    "written-unheard": "found by this simulator: behind a pause a batch is written in the turn in which the link began to be heard",
        "event_loop/wires.rs", "if !wire.is_caught_up || wire.under_way.contains(Kind::LinkReceive) && wire.is_fresh =>" => "if !wire.is_caught_up =>";
    "late-wire": "what completes on a link that was given up counts for the one that is there",
        "event_loop/wires.rs", "place(wire.link) == op.place && wire.op(op.kind) == op)" => "place(wire.link) == op.place && (wire.op(op.kind) == op || !wire.is_over))";
    "sealed-too-early": "a link whose bytes are sealed counts as connected before both ends have agreed",
        "event_loop/wires/sealed.rs", "if !sealed.is_open && sealed.cipher.is_ready() {" => "if !sealed.is_open {";
    "sealed-end-unheard": "the end of a sealed link is not heard",
        "event_loop/wires/sealed.rs", "Ok(0) => Err(Trouble::Closed)," => "Ok(0) => Ok(()),";
    "around-from-start": "a reply that is sent from the buffer in which it came is sent with what the bus had before it",
        "clients/outbound.rs", "            (self.next, self.next_from) = (buffer, from as u32);" => "            (self.next, self.next_from) = (buffer, 0);";
    "around-behind-lost": "what has come behind a large reply goes away with its buffer",
        "redis/input.rs", "        (std::mem::replace(&mut self.buffer, rest), end - bytes..end)" => "        drop(rest);\n        (std::mem::take(&mut self.buffer), end - bytes..end)";
    "around-no-room": "a wrapper is written where there is no room for it",
        "clients/outbound.rs", "self.body.start >= frame::HEADER_BYTES_MAX + self.head.len()" => "true";
    "resume-forgotten": "who may be read from again is not",
        "event_loop/receiving.rs", "        if !connection.is_held {\n            self.held.listen(slot);" => "        if !connection.is_held {\n            let _ = slot;";
    "held-resume-forgotten": "what waited of a client that may be read from again is not heard",
        "event_loop/receiving.rs", "} else if !std::mem::replace(&mut connection.is_queued, true) {" => "} else if false && !std::mem::replace(&mut connection.is_queued, true) {";
    "judged-unheard": "a client is judged while what it sent waits in the kernel",
        "event_loop/judging.rs", " && self.ring.unread(connection.socket) == 0" => "";
    "silenced-unjudged": "a client of which something waits unread is never judged, though nothing is read of it",
        "event_loop/judging.rs", "if connection.has_ended || self.clients.is_paused(slot) {" => "if connection.has_ended {";
    "judged-untold": "found by this simulator: a client is judged while what it sent is on its way through the ring",
        "event_loop/judging.rs", " && is_told && " => " && (is_told || true) && ";
    "sleeps-over-sends": "the core sleeps though it has more to send",
        "event_loop/mod.rs", "            || self.sending.has_more()\n" => "";
    "sleeps-over-turns": "the core sleeps though heavy clients have something",
        "event_loop/held.rs", "!self.queue.is_empty() || !self.listens" => "!self.listens";
    "released-late": "the core sleeps though clients are to be given up",
        "event_loop/mod.rs", "            || self.leaving.has_more()\n" => "";
}

impl Planted {
    /// The file in the source at `root` with the bug in it.
    pub fn planted(&self, root: &str) -> Result<String, String> {
        let Self { name, file, find, replace, .. } = self;
        let text = std::fs::read_to_string(format!("{root}/{file}")).map_err(|error| format!("{file}: {error}"))?;
        match text.matches(find).count() {
            1 => Ok(text.replacen(find, replace, 1)),
            found => Err(format!("{name}: the text to replace stands {found} times in {file}")),
        }
    }
}

/// Plants `name` in the copy at `root`.
pub fn plant(name: &str, root: &str) -> Result<(), String> {
    let bug = PLANTED.iter().find(|bug| bug.name == name).ok_or("no such bug")?;
    let path = format!("{root}/{}", bug.file);
    std::fs::write(&path, bug.planted(root)?).map_err(|error| format!("{path}: {error}"))
}
