// What is below the charts: drain, clients by what they wait for, cores, limits.

/** The states of a client, in the order in which they are judged, and how they are called. */
const STATES = [
  ['sending', 'take a reply'],
  ['waiting_for_replies', 'wait for a reply'],
  ['waiting_for_room', 'wait for room on the bus'],
  ['in_stateful_session', 'have a session'],
  ['idle', 'idle'],
];

const sum = (cores, of) => cores.reduce((all, core) => all + (typeof of === 'string' ? core[of] : of(core)), 0);

/** A cell, or a definition, written anew only where it differs. */
function writeFacts(list, facts) {
  each(list, facts, () => make('div', {}, make('dt'), make('dd')), (row, [name, text, good]) => {
    say(row.children[0], name);
    say(row.children[1], text);
    if (good === undefined) delete row.children[1].dataset.good;
    else row.children[1].dataset.good = good ? 'yes' : 'no';
  });
}

function writeHead(now) {
  const phase = byId('phase');
  const unready = now.phase === 'serving' && !now.ready.good;
  say(phase, unready ? 'serving, not ready' : now.phase);
  phase.dataset.phase = unready ? 'unready' : now.phase;
  for (const [id, said] of [['ready', now.ready], ['healthy', now.healthy]]) {
    say(byId(id), said.why);
    byId(id).dataset.good = said.good ? 'yes' : 'no';
  }
  say(byId('uptime'), duration(now.uptime_seconds));
  document.title = `${phase.textContent}, ${count(sum(now.cores, 'open'))} clients: evergate`;
}

/** A row of a table that is cards where the window is narrow: a heading, and cells with their labels. */
const card = (columns) =>
  make('tr', { role: 'row' }, make('th', { role: 'rowheader', scope: 'row' }), ...columns.map(([label, , words]) => make('td', { role: 'cell', 'data-label': label, class: words ? '' : 'n' }, make('span'))));

/** Its headings, once. */
function writeHeadings(table, first, columns) {
  const row = table.tHead.rows[0];
  if (row.children.length) return;
  row.append(...[[first, null, true], ...columns].map(([label, , words]) => make('th', { role: 'columnheader', scope: 'col', class: words ? '' : 'n' }, label)));
}

/** What a drain waits for. */
const WAIT_COLUMNS = [
  ['Method', (wait) => wait.method, true],
  ['Client', (wait) => wait.client, true],
  ['For', (wait) => span(wait.age_ms / 1000)],
];

function writeDrain(now) {
  const { drain } = now;
  byId('drain').hidden = drain === null;
  if (drain === null) return;
  const open = sum(now.cores, 'open');
  const closed = drain.closed_at_gap + drain.closed_at_deadline;
  const done = open + closed === 0 ? 1 : closed / (open + closed);
  const bar = byId('drain-bar');
  bar.setAttribute('aria-valuenow', Math.floor(done * 100));
  bar.firstElementChild.style.width = `${done * 100}%`;
  const facts = [
    ['Closed', `${count(closed)} of ${count(open + closed)}`],
    ['Still here', count(open)],
    ['Port', drain.port_closes_in_seconds > 0 ? `closes in ${span(drain.port_closes_in_seconds)}` : 'closed'],
    ['Deadline', drain.seconds_left > 0 ? `in ${span(drain.seconds_left)}` : 'now'],
    ['Requests after a close', count(drain.crossed_close)],
  ];
  if (drain.closed_at_deadline > 0) facts.push(['Cut off', count(drain.cut), drain.cut === 0]);
  writeFacts(byId('drain-facts'), facts);
  byId('waits').hidden = drain.waits.length === 0;
  writeHeadings(byId('waits'), 'Service', WAIT_COLUMNS);
  each(byId('waits').tBodies[0], drain.waits, () => card(WAIT_COLUMNS), (row, wait) => {
    say(row.children[0], wait.service);
    WAIT_COLUMNS.forEach(([, write], index) => say(row.children[index + 1].firstElementChild, write(wait)));
  });
  const none = byId('waits-none');
  none.hidden = drain.waits.length > 0;
  say(none, open > 0 ? 'Nothing is under way: those who are left wait for their turn, or for the quiet time after their last message.' : 'Nobody is left.');
}

function writeStates(now) {
  const total = sum(now.cores, 'open');
  const counts = STATES.map(([name, words]) => [name, words, sum(now.cores, name)]);
  each(byId('states'), counts, () => make('span'), (part, [name, , n]) => {
    part.className = `s-${name}`;
    part.style.width = `${total ? (n / total) * 100 : 0}%`;
  });
  each(byId('states-legend'), counts, () => make('div', {}, make('dt'), make('dd')), (row, [name, words, n]) => {
    if (!row.dataset.state) {
      row.dataset.state = name;
      row.children[0].append(make('span', { class: `key s-${name}` }), words);
    }
    say(row.children[1], count(n));
  });
}

/** The columns of the services: heading, what is written. */
const SERVICE_COLUMNS = [
  ['Answered/s', (service) => count(service.requests)],
  ['First reply, p50', (service) => time(service.p50_us)],
  ['p99', (service) => time(service.p99_us)],
  ['Errors/s', (service) => count(service.failures)],
];

function writeServices(now) {
  const table = byId('services');
  table.parentElement.hidden = !now.services;
  if (!now.services) return;
  table.hidden = now.services.length === 0;
  byId('services-none').hidden = now.services.length > 0;
  writeHeadings(table, 'Service', SERVICE_COLUMNS);
  each(table.tBodies[0], now.services, () => card(SERVICE_COLUMNS), (row, service) => {
    say(row.children[0], service.name);
    SERVICE_COLUMNS.forEach(([, write], index) => say(row.children[index + 1].firstElementChild, write(service)));
  });
}

/** The columns of the cores: heading, what is written, whether it is words. */
const CORE_COLUMNS = [
  ['CPU', null, true],
  ['Clients', (core) => count(core.open)],
  ['Requests/s', (core) => count(core.pace?.requests)],
  ['Replies/s', (core) => count(core.pace?.replies)],
  ['Under way', (core) => count(core.pending)],
  ['Sessions', (core) => count(core.sessions)],
  ['Buffered', (core) => bytes(core.buffered)],
  ['Longest turn', (core) => time(core.turn_longest_us)],
  ['Bus', (core) => core.bus.map((bus) => (core.bus.length > 1 ? `${bus.domain} ${bus.state}` : bus.state)).join(', '), true],
];

function coreRow() {
  const row = card(CORE_COLUMNS);
  const bar = make('div', { class: 'bar', 'aria-hidden': 'true' }, make('span', { class: 'work' }), make('span', { class: 'look' }));
  row.children[1].className = 'cpu';
  row.children[1].replaceChildren(make('div', { class: 'withbar' }, bar, make('span', { class: 'n' })));
  return row;
}

function writeCores(now) {
  const table = byId('cores');
  writeHeadings(table, 'Core', CORE_COLUMNS);
  each(table.tBodies[0], now.cores, coreRow, (row, core) => {
    const [head, cpu, ...cells] = row.children;
    say(head, `Core ${core.core}`);
    const [bar, text] = cpu.firstElementChild.children;
    bar.children[0].style.width = `${(core.pace?.busy ?? 0) * 100}%`;
    bar.children[1].style.width = `${(core.pace?.looking ?? 0) * 100}%`;
    say(text, percent(core.pace?.busy));
    cells.forEach((cell, index) => say(cell.firstElementChild, CORE_COLUMNS[index + 1][1](core)));
    const up = core.bus.every((bus) => bus.state === 'up');
    cells[cells.length - 1].firstElementChild.dataset.good = up ? 'yes' : 'no';
  });
}

function writeLimits(now) {
  const near = now.limits.map((limit) => ({ ...limit, part: limit.most ? limit.now / limit.most : 0 })).sort((a, b) => b.part - a.part);
  each(byId('limits'), near, () => make('li', {}, make('span'), make('div', { class: 'bar', 'aria-hidden': 'true' }, make('span')), make('span', { class: 'of' })), (row, limit) => {
    say(row.children[0], limit.name);
    const fill = row.children[1].firstElementChild;
    fill.className = limit.part >= 0.9 ? 'bad' : limit.part >= 0.7 ? 'warn' : 'work';
    fill.style.width = `${Math.min(1, limit.part) * 100}%`;
    const write = limit.unit === 'bytes' ? bytes : count;
    say(row.children[2], `${write(limit.now)} of ${write(limit.most)}${limit.unit === 'bytes' ? '' : ` ${limit.unit}`}, ${percent(limit.part)}`);
  });
  const hits = Object.entries(now.hits).sort(([, a], [, b]) => (b.last_at_ms ?? -1) - (a.last_at_ms ?? -1));
  byId('hits').hidden = hits.length === 0;
  byId('hits-none').hidden = hits.length > 0;
  each(byId('hits').tBodies[0], hits, () => make('tr', {}, make('th', { scope: 'row' }), make('td', { class: 'n' }), make('td', { class: 'n' })), (row, [name, hit]) => {
    say(row.children[0], name);
    say(row.children[1], count(hit.times));
    const ago = Math.max(0, now.uptime_seconds - hit.last_at_ms / 1000);
    say(row.children[2], ago < 1.5 ? 'just now' : `${span(ago)} ago`);
  });
}

function writeAll(now) {
  writeHead(now);
  writeDrain(now);
  writeStates(now);
  writeServices(now);
  writeCores(now);
  writeLimits(now);
}
