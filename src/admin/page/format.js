// Numbers as people read them, and elements without a word of HTML: what clients wrote is only ever text.

const NARROW = '\u202f';

/** 1234 -> "1,234", 123456 -> "123 k". */
function count(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return '–';
  if (n >= 1e6) return `${(n / 1e6).toFixed(n < 1e7 ? 2 : 1)}${NARROW}M`;
  if (n >= 1e5) return `${Math.round(n / 1e3)}${NARROW}k`;
  if (n > 0 && n < 10 && !Number.isInteger(n)) return n.toFixed(1);
  return Math.round(n).toLocaleString('en-US');
}

/** Bytes with a binary unit. */
function bytes(n) {
  if (n === null || n === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit > 0 && n < 10 ? n.toFixed(1) : Math.round(n)}${NARROW}${units[unit]}`;
}

/** Microseconds. */
function time(us) {
  if (us === null || us === undefined) return '–';
  if (us >= 1e6) return `${Number((us / 1e6).toFixed(us < 1e7 ? 2 : 1))}${NARROW}s`;
  if (us >= 1e3) return `${Number((us / 1e3).toFixed(us < 1e4 ? 1 : 0))}${NARROW}ms`;
  return `${Math.round(us)}${NARROW}µs`;
}

function percent(fraction) {
  if (fraction === null || fraction === undefined) return '–';
  const value = fraction * 100;
  if (value > 0 && value < 0.1) return `< 0.1${NARROW}%`;
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)}${NARROW}%`;
}

/** Seconds as "3 d 4:05:06" or "4:05". */
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  const two = (n) => String(n).padStart(2, '0');
  const clock = hours || days ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  return days ? `${days} d ${clock}` : clock;
}

/** Seconds with a unit: "0.3 s", "12 s", "2 min". */
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)}${NARROW}s`;
  if (seconds < 120) return `${Math.round(seconds)}${NARROW}s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}${NARROW}min`;
  return `${Math.round(seconds / 3600)}${NARROW}h`;
}

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; text stays text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Text, only where it differs: an unchanged node keeps a reader's place and selection. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** As many children as there are things, each made once and then written anew. */
function each(parent, things, create, write) {
  while (parent.children.length > things.length) parent.lastElementChild.remove();
  things.forEach((thing, index) => {
    const child = parent.children[index] ?? parent.appendChild(create());
    write(child, thing);
  });
}

/** What a screen reader hears without looking: phases, lost connections, what an action came to. */
function announce(text) {
  byId('announce').textContent = text;
}
