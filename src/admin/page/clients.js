// Who is connected: asked for when somebody looks, and now and then while he does.

const PAGE = 50;
const REFRESH_MS = 5000;

const CLIENT_COLUMNS = [
  ['Address', (row) => row.address, true],
  ['State', (row) => STATES.find(([name]) => name === row.state)?.[1] ?? row.state, true],
  ['Connected for', (row) => span(row.age_ms / 1000)],
  ['Requests', (row) => count(row.requests)],
  ['Under way', (row) => count(row.in_flight)],
  ['Sessions', (row) => count(row.sessions)],
  ['Waiting', (row) => count(row.waiting)],
  ['Not delivered', (row) => bytes(row.undelivered_bytes)],
];

const clients = {
  /** Where the next page begins; null behind the last. */
  next: null,
  timer: null,

  query(cursor) {
    const asked = new URLSearchParams({ limit: PAGE });
    for (const [name, id] of [['address', 'clients-address'], ['state', 'clients-state'], ['in_flight', 'clients-in-flight']]) {
      if (byId(id).value) asked.set(name, byId(id).value);
    }
    if (cursor) asked.set('cursor', cursor);
    return `connections?${asked}`;
  },

  /** Asks for the first page, or for one more. */
  async load(cursor) {
    clearTimeout(this.timer);
    try {
      const response = await fetch(this.query(cursor), { cache: 'no-store' });
      if (!response.ok) throw new Error(await response.text());
      const page = await response.json();
      this.write(page, Boolean(cursor));
    } catch (error) {
      say(byId('clients-said'), error.message);
    }
    // Whoever reads further pages does not want them to go.
    if (!cursor && byId('clients').open) this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
  },

  refresh() {
    if (!byId('clients').open || document.hidden || byId('clients-rows').contains(document.activeElement)) {
      this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
      return;
    }
    this.load(null);
  },

  write(page, more) {
    const body = byId('clients-rows');
    const rows = page.connections.map((row) => this.row(row));
    if (more) body.append(...rows);
    else body.replaceChildren(...rows);
    this.next = page.next ?? null;
    byId('clients-more').hidden = this.next === null;
    const silent = page.silent_cores?.length ? `; core ${page.silent_cores.join(', ')} has not answered` : '';
    say(byId('clients-said'), `${body.children.length}${this.next === null ? '' : ' or more'} connections${silent}`);
  },

  row(row) {
    const shown = card(CLIENT_COLUMNS);
    say(shown.children[0], row.connection);
    CLIENT_COLUMNS.forEach(([, write], index) => say(shown.children[index + 1].firstElementChild, write(row)));
    const last = shown.appendChild(make('td', { role: 'cell', class: 'act' }));
    if (row.closing_at_gap) last.append('closed at its gap');
    else if (actions.allowed) {
      const button = make('button', { type: 'button', 'aria-label': `Close connection ${row.connection}` }, 'Close…');
      button.addEventListener('click', () => actions.close(row));
      last.append(button);
    }
    return shown;
  },
};

{
  writeHeadings(byId('clients-rows').parentElement, 'Connection', CLIENT_COLUMNS);
  byId('clients-head').append(make('th', { role: 'columnheader', scope: 'col' }, make('span', { class: 'hidden' }, 'Action')));
  byId('clients-state').append(
    make('option', { value: '' }, 'any'),
    ...[['handshaking', 'in the handshake'], ...STATES, ['closing', 'closing']].map(([name, words]) => make('option', { value: name }, words)),
  );
  byId('clients').addEventListener('toggle', () => {
    if (byId('clients').open) clients.load(null);
    else clearTimeout(clients.timer);
  });
  byId('clients-form').addEventListener('submit', (event) => {
    event.preventDefault();
    clients.load(null);
  });
  byId('clients-form').addEventListener('change', () => clients.load(null));
  byId('clients-more').addEventListener('click', () => clients.load(clients.next));
}
