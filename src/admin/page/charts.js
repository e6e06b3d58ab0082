// Ten minutes as lines, drawn by hand into SVG.

const WINDOW_MS = 600000;
/** A young process has a shorter past. */
const WINDOW_MS_MIN = 60000;
const SAMPLES_MAX = 600;
/** A pause longer than this is a gap, and no line. */
const GAP_MS = 3500;
const DRAINING = 2;
const [WIDTH, HEIGHT] = [600, 46];

/** The samples of the last ten minutes: `at_ms`, `phase`, and a column for each series. */
const past = {
  columns: { at_ms: [], phase: [] },

  replace(columns) {
    this.columns = columns;
  },

  push(sample) {
    const { at_ms: times } = this.columns;
    if (times.length && sample.at_ms <= times[times.length - 1]) return;
    for (const [name, value] of Object.entries(sample)) (this.columns[name] ??= []).push(value);
    if (times.length > SAMPLES_MAX) for (const column of Object.values(this.columns)) column.shift();
  },

  get last() {
    return this.columns.at_ms.length - 1;
  },

  /** How far a chart goes back. */
  get window() {
    const { at_ms: times } = this.columns;
    return Math.max(WINDOW_MS_MIN, Math.min(WINDOW_MS, times[this.last] - times[0]));
  },

  /** Where a time lies in a chart, 0 to WIDTH: the right end is the newest sample. */
  x(index) {
    const { at_ms: times } = this.columns;
    return WIDTH * (1 - (times[this.last] - times[index]) / this.window);
  },
};

/** Which sample is read: an index, or null for the newest. */
let reading = null;

function svg(tag, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A round number, not below `value`: 1, 2 or 5 times a power of ten; for bytes a power of two. */
function ceiling(value, binary) {
  if (binary) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

class Tile {
  /**
   * `series`: one or two of {name, label}; `format` writes a value; the axis ends at `top`, or where the values do, but not below `least`,
   * at a round number, of bytes where it is `binary`.
   */
  constructor(title, series, { format, least = 1, top = null, binary = false }) {
    Object.assign(this, { series, format, least, top, binary });
    this.values = series.map((of, index) => make('span', { class: index ? 'also' : 'first', title: of.label }));
    this.most = make('span', { class: 'top' });
    this.picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' });
    this.shades = svg('g', {});
    this.area = svg('path', { class: 'area' });
    this.lines = series.map((_, index) => svg('path', { class: `line ${'ab'[index]}` }));
    this.cross = svg('line', { class: 'cross', y1: 0, y2: HEIGHT, visibility: 'hidden' });
    this.picture.append(this.shades, svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), this.area, ...this.lines, this.cross);
    const value = make('p', { class: 'value' }, ...this.values);
    this.element = make('div', { class: 'tile' }, make('div', { class: 'name' }, make('h3', {}, title), this.most), value, make('div', { class: 'chart' }, this.picture));
  }

  write(element, value, index) {
    const { label } = this.series[index];
    const text = this.format(value);
    if (element.dataset.text === text) return;
    element.dataset.text = text;
    element.replaceChildren(text, ...(label ? [make('small', {}, ` ${label}`)] : []));
  }

  draw() {
    this.element.hidden = !(this.series[0].name in past.columns);
    const at = reading ?? past.last;
    const columns = this.series.map(({ name }) => past.columns[name] ?? []);
    columns.forEach((column, index) => this.write(this.values[index], column[at] ?? null, index));
    const highest = Math.max(0, ...columns.flat().filter((value) => value !== null));
    const most = this.top ?? Math.max(this.least, highest > 0 ? ceiling(highest, this.binary) : 0);
    say(this.most, `0 to ${this.format(most)}`);
    columns.forEach((column, index) => this.lines[index].setAttribute('d', path(column, most)));
    this.area.setAttribute('d', area(columns[0], most));
    shade(this.shades);
    this.cross.setAttribute('visibility', reading === null ? 'hidden' : 'visible');
    if (reading !== null) {
      this.cross.setAttribute('x1', past.x(reading));
      this.cross.setAttribute('x2', past.x(reading));
    }
  }
}

/** Runs of samples without a gap, each a list of [x, y]. */
function runs(column, most) {
  const { at_ms: times } = past.columns;
  const found = [];
  let run = null;
  const { window } = past;
  column.forEach((value, index) => {
    const x = WIDTH * (1 - (times[past.last] - times[index]) / window);
    if (value === null || x < 0) {
      run = null;
      return;
    }
    if (run === null || (index > 0 && times[index] - times[index - 1] > GAP_MS)) found.push((run = []));
    run.push([x, HEIGHT - 1 - (HEIGHT - 3) * Math.min(1, value / most)]);
  });
  return found;
}

const points = (run) => run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L');

function path(column, most) {
  // A lone sample would be a line without length.
  return runs(column, most).map((run) => `M${points(run)}${run.length === 1 ? 'h1' : ''}`).join('');
}

function area(column, most) {
  const closed = (run) => `M${run[0][0].toFixed(1)} ${HEIGHT}L${points(run)}L${run[run.length - 1][0].toFixed(1)} ${HEIGHT}Z`;
  return runs(column, most).map(closed).join('');
}

/** The times of drains. */
function shade(group) {
  const { phase } = past.columns;
  const spans = [];
  phase.forEach((of, index) => {
    if (of < DRAINING) return;
    const [from, to] = [past.x(Math.max(0, index - 1)), past.x(index)];
    const last = spans[spans.length - 1];
    if (last && last[1] >= from - 0.01) last[1] = to;
    else spans.push([from, to]);
  });
  const wanted = spans.filter(([, to]) => to > 0);
  while (group.children.length > wanted.length) group.lastElementChild.remove();
  wanted.forEach(([from, to], index) => {
    const rect = group.children[index] ?? group.appendChild(svg('rect', { class: 'shade', y: 0, height: HEIGHT }));
    rect.setAttribute('x', Math.max(0, from));
    rect.setAttribute('width', Math.max(1, to - Math.max(0, from)));
  });
}

const tiles = [
  new Tile('Clients', [{ name: 'clients', label: 'open' }], { format: count }),
  new Tile('Requests and replies', [{ name: 'requests', label: 'in/s' }, { name: 'replies', label: 'out/s' }], { format: count }),
  new Tile('Time to the first reply', [{ name: 'p50_us', label: 'p50' }, { name: 'p99_us', label: 'p99' }], { format: time, least: 1000 }),
  new Tile('Requests under way', [{ name: 'pending', label: '' }], { format: count }),
  new Tile('Errors and refusals', [{ name: 'errors', label: 'errors/s' }, { name: 'refused', label: 'refused/s' }], { format: count }),
  new Tile('Traffic with clients', [{ name: 'bytes_in', label: 'in/s' }, { name: 'bytes_out', label: 'out/s' }], { format: bytes, least: 1024, binary: true }),
  new Tile('Redis round trip', [{ name: 'bus_us', label: 'mean' }], { format: time, least: 500 }),
  new Tile('Buffered for clients', [{ name: 'buffered', label: '' }], { format: bytes, least: 1024, binary: true }),
  new Tile('New connections', [{ name: 'accepted', label: '/s' }], { format: count }),
  new Tile('Cores at work', [{ name: 'busy', label: 'of their time' }], { format: percent, top: 1 }),
];

function drawTiles() {
  const { at_ms: times } = past.columns;
  if (!times.length) return;
  for (const tile of tiles) tile.draw();
  const minutes = Math.round(past.window / 60000);
  say(byId('now-h'), `Now, and the last ${minutes === 1 ? 'minute' : `${minutes} minutes`}`);
  say(byId('at'), reading === null ? 'now' : `${duration((times[past.last] - times[reading]) / 1000)} ago`);
}

/** Reads the sample nearest to a time, as far from the left of a chart as `fraction` of its width. */
function readAt(fraction) {
  const { at_ms: times } = past.columns;
  if (!times.length) return;
  const wanted = times[past.last] - (1 - fraction) * past.window;
  let nearest = 0;
  times.forEach((at, index) => {
    if (Math.abs(at - wanted) < Math.abs(times[nearest] - wanted)) nearest = index;
  });
  reading = nearest === past.last ? null : nearest;
  drawTiles();
}

function readByKey(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60, Home: -SAMPLES_MAX, End: SAMPLES_MAX };
  if (event.key === 'Escape') reading = null;
  else if (event.key in steps) {
    const next = Math.max(0, Math.min(past.last, (reading ?? past.last) + steps[event.key]));
    reading = next === past.last ? null : next;
  } else return;
  event.preventDefault();
  drawTiles();
  if (reading !== null) announce(`${byId('at').textContent}: ${tiles.map((tile) => `${tile.element.querySelector('h3').innerText} ${tile.element.querySelector('.value').innerText}`).join('; ')}`);
}

{
  const group = byId('tiles');
  group.append(...tiles.map((tile) => tile.element));
  group.addEventListener('pointermove', (event) => {
    const chart = event.target.closest('.chart');
    if (!chart) return;
    const box = chart.getBoundingClientRect();
    readAt((event.clientX - box.left) / box.width);
  });
  group.addEventListener('pointerleave', () => {
    reading = null;
    drawTiles();
  });
  group.addEventListener('keydown', readByKey);
}
