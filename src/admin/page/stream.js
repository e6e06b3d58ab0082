// The stream of events: opened, watched, opened again; and the theme.

/** News come once a second. */
const STALE_MS = 2500;
const RETRY_MS = [500, 1000, 2000, 4000];
/** A page that nobody sees leaves its place to others. */
const HIDDEN_MAX_MS = 60000;

/** What was told last. */
let latest = null;
let known = { pid: null, program: null, phase: null };

const stream = {
  source: null,
  heardAt: 0,
  tries: 0,
  timer: null,
  ended: null,

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    const source = (this.source = new EventSource('events'));
    const on = (name, handle) =>
      source.addEventListener(name, (event) => {
        this.heardAt = performance.now();
        this.tries = 0;
        handle(JSON.parse(event.data));
        this.show();
      });
    on('hello', hear);
    on('now', update);
    on('ended', finish);
    // The browser's own way to try again gives up on some errors.
    source.onerror = () => this.retry();
  },

  retry() {
    this.source?.close();
    this.source = null;
    const wait = RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)];
    this.tries += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), wait);
    this.show();
  },

  pause() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
  },

  /** Says how old the figures are. */
  show() {
    const shown = byId('stream');
    const age = performance.now() - this.heardAt;
    const stale = this.heardAt === 0 ? this.tries > 0 : age > STALE_MS;
    const isOver = this.ended !== null;
    let text = 'live';
    if (isOver) text = 'ended; waiting for another process';
    else if (this.heardAt === 0) text = stale ? 'no answer yet; trying again' : 'connecting';
    else if (stale) text = `stale: no news for ${Math.floor(age / 1000)} s; trying again`;
    say(shown, text);
    const was = shown.dataset.live;
    shown.dataset.live = isOver ? 'no' : stale ? 'stale' : this.heardAt ? 'yes' : 'no';
    document.body.classList.toggle('stale', stale);
    if (was === 'yes' && stale && this.ended === null) announce('The gateway does not answer; the figures are old.');
    if (was === 'stale' && !stale) announce('The figures are live again.');
  },
};

function notice(kind, text) {
  const element = byId('notice');
  element.hidden = text === '';
  element.className = `notice ${kind}`;
  say(element, text);
  if (text) announce(text);
}

/** A process presents itself: the first one, the same after a pause, or its successor. */
function hear(hello) {
  const program = `${hello.version} ${hello.commit}`;
  if (known.pid !== null && known.pid !== hello.pid) {
    const other = known.program === program ? '' : ` It is another version, ${program}: reload the page to have its own.`;
    notice('good', `Process ${hello.pid} answers here now; before it was ${known.pid}.${other}`);
  }
  else if (stream.ended === null) notice('', '');
  stream.ended = null;
  known = { pid: hello.pid, program, phase: null };
  reading = null;
  past.replace(hello.history);
  say(byId('listen'), `${hello.listen}, domain ${hello.domain}`);
  say(byId('pid'), String(hello.pid));
  actions.allowed = hello.actions;
  actions.hello = hello;
  terminal.offer(hello.console);
}

function update(now) {
  latest = now;
  if (now.sample) past.push(now.sample);
  if (known.phase !== null && known.phase !== now.phase) announce(`The gateway is ${now.phase}.`);
  known.phase = now.phase;
  writeAll(now);
  actions.write(now);
  drawTiles();
}

/** The process has ended, and said how. */
function finish({ exit_code: code, now }) {
  update(now);
  stream.ended = code;
  const phase = byId('phase');
  say(phase, 'ended');
  phase.dataset.phase = code === 0 ? 'done' : 'ended';
  byId('drain-open').hidden = byId('cancel-open').hidden = true;
  const { drain } = now;
  const closed = drain ? `${count(drain.closed_at_gap)} clients closed while nothing was under way for them, ${count(drain.cut)} cut off` : 'stopped without a drain';
  const kind = code === 0 ? 'good' : 'bad';
  notice(kind, `Process ${known.pid} has ended with exit code ${code}: ${drain ? `drained, ${closed}` : closed}. This page waits for its successor.`);
  document.title = 'ended: evergate';
}

/** Follows the system, or what was chosen. */
const THEMES = ['system', 'light', 'dark'];
const theme = {
  get() {
    try {
      return localStorage.getItem('evergate-theme') ?? 'system';
    } catch {
      return document.documentElement.dataset.theme ?? 'system';
    }
  },
  set(name) {
    if (name === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    say(byId('theme'), `Theme: ${name}`);
    try {
      localStorage.setItem('evergate-theme', name);
    } catch {
      // It holds until the page is closed.
    }
  },
};
theme.set(THEMES.includes(theme.get()) ? theme.get() : 'system');
byId('theme').addEventListener('click', () => theme.set(THEMES[(THEMES.indexOf(theme.get()) + 1) % THEMES.length]));

let hiding = null;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => stream.pause(), HIDDEN_MAX_MS);
  else if (stream.source === null) stream.open();
});
setInterval(() => stream.show(), 500);
stream.open();
