// The demo's console: a request as a browser sends it, and what comes back.

const EXAMPLES = [
  ['add two numbers', 'opensrf.math', 'add', '[1, 2]'],
  ['echo', 'opensrf.demo', 'opensrf.demo.echo', '["a", {"b": [1, 2]}]'],
  ['a reply after 5 s', 'opensrf.demo', 'opensrf.demo.sleep', '[5]'],
  ['five replies, one a second', 'opensrf.demo', 'opensrf.demo.count', '[5, 1]'],
  ['an error', 'opensrf.demo', 'opensrf.demo.fail', '[418, "no tea"]'],
  ['a service that is not there', 'opensrf.nowhere', 'anything', '[]'],
];

/** Lines that are kept. */
const LINES_MAX = 200;
const PATH = '/osrf-websocket-translator';

const terminal = {
  url: null,
  socket: null,
  /** When each request was sent, by its thread. */
  sent: new Map(),

  line(kind, what, text, since) {
    const out = byId('console-out');
    const when = since === undefined ? '' : `+${Math.round(performance.now() - since)} ms`;
    out.append(make('li', { class: kind }, make('time', {}, when), make('span', { class: kind }, what), make('span', {}, text)));
    while (out.children.length > LINES_MAX) out.firstElementChild.remove();
    out.scrollTop = out.scrollHeight;
  },

  /** The open socket; one is made where there is none. */
  open() {
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) return this.socket;
    const socket = new WebSocket(this.url + PATH);
    say(byId('console-state'), 'connecting');
    socket.onopen = () => say(byId('console-state'), 'connected');
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => {
      const why = { 1000: 'normal', 1001: 'the gateway stops', 1006: 'no close frame', 1012: 'drained: connect again, elsewhere' }[event.code] ?? event.reason;
      say(byId('console-state'), `closed with ${event.code}${why ? ` (${why})` : ''}`);
      this.line(event.code === 1000 ? 'end' : 'err', 'closed', `${event.code} ${why}`);
      if (this.socket === socket) this.socket = null;
    };
    return (this.socket = socket);
  },

  send(service, method, params) {
    const thread = crypto.getRandomValues(new Uint32Array(2)).join('');
    const payload = { __c: 'osrfMethod', __p: { method, params } };
    const message = { __c: 'osrfMessage', __p: { threadTrace: 1, locale: 'en-US', type: 'REQUEST', payload } };
    const text = JSON.stringify({ service, thread, osrf_msg: [message] });
    const socket = this.open();
    const go = () => {
      this.sent.set(thread, performance.now());
      socket.send(text);
      this.line('out', 'request', `${service} ${method} ${JSON.stringify(params)}`);
    };
    if (socket.readyState === WebSocket.OPEN) go();
    else socket.addEventListener('open', go, { once: true });
  },

  receive(data) {
    const envelope = JSON.parse(data);
    const since = this.sent.get(envelope.thread);
    for (const { __p: message } of envelope.osrf_msg) {
      const { status, statusCode, content } = message.payload?.__p ?? {};
      const text = message.type === 'RESULT' ? JSON.stringify(content) : `${statusCode} ${status}`;
      this.line(statusCode >= 400 ? 'err' : 'in', message.type.toLowerCase(), text, since);
      if (message.type === 'STATUS' && (statusCode === 205 || statusCode >= 400)) this.sent.delete(envelope.thread);
    }
  },

  /** Shows the console, where the gateway has one. */
  offer(url) {
    this.url = url;
    byId('console').hidden = url === null;
  },
};

{
  const example = byId('console-example');
  example.append(...EXAMPLES.map(([name], index) => make('option', { value: index }, name)));
  const fill = () => {
    const [, service, method, params] = EXAMPLES[example.value];
    [byId('console-service').value, byId('console-method').value, byId('console-params').value] = [service, method, params];
  };
  fill();
  example.addEventListener('change', fill);
  byId('console-form').addEventListener('submit', (event) => {
    event.preventDefault();
    let params;
    try {
      params = JSON.parse(byId('console-params').value || '[]');
      if (!Array.isArray(params)) throw new Error('params must be a list');
    } catch (error) {
      terminal.line('err', 'params', error.message);
      return;
    }
    terminal.send(byId('console-service').value, byId('console-method').value, params);
  });
  byId('console-close').addEventListener('click', () => terminal.socket?.close(1000));
}
