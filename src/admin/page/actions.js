// The buttons that act, where the gateway allows it: each asks first, and sends the token.

const TOKEN = 'evergate-token';

/** Kept for as long as this tab lives. Storage may be forbidden: then it is asked for each time. */
const token = {
  get() {
    try {
      return sessionStorage.getItem(TOKEN) ?? '';
    } catch {
      return '';
    }
  },
  set(text) {
    try {
      sessionStorage.setItem(TOKEN, text);
    } catch {
      // It is asked for again.
    }
  },
};

/** The demo prints a link that holds it, behind the #, which no server sees. */
{
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    token.set(given);
    history.replaceState(null, '', location.pathname);
  }
}

/** Posts to an action; its answer, or an error that says what is wrong. */
async function act(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-Evergate-Token': token.get() },
    body: JSON.stringify(body),
    cache: 'no-store',
    redirect: 'error',
  });
  const answer = await response.json().catch(() => ({}));
  if (!answer.ok) throw new Error(answer.error ?? `the gateway answers ${response.status}`);
  return answer;
}

/**
 * Asks whether to act, and for the token where there is none. `run` acts, and hears whether the `choice` was made, if there is one; what
 * it throws is shown, and may be tried again.
 */
function ask({ title, text, yes, run, choice = null }) {
  const dialog = byId('ask');
  say(byId('ask-h'), title);
  say(byId('ask-text'), text);
  say(byId('ask-yes'), yes);
  say(byId('ask-error'), '');
  byId('ask-choice-label').hidden = choice === null;
  say(byId('ask-choice-text'), choice ?? '');
  byId('ask-choice').checked = false;
  const field = byId('ask-token');
  field.value = '';
  byId('ask-token-label').hidden = token.get() !== '';
  dialog.querySelector('form').onsubmit = async (event) => {
    event.preventDefault();
    if (field.value) token.set(field.value.trim());
    byId('ask-yes').disabled = true;
    try {
      await run(byId('ask-choice').checked);
      dialog.close();
    } catch (error) {
      say(byId('ask-error'), error.message);
      byId('ask-token-label').hidden = false;
    } finally {
      byId('ask-yes').disabled = false;
    }
  };
  dialog.showModal();
  (field.offsetParent ? field : byId('ask-no')).focus();
}

const actions = {
  allowed: false,
  hello: null,

  /** What may be done now. */
  write(now) {
    byId('drain-open').hidden = !this.allowed || now.phase !== 'serving';
    byId('cancel-open').hidden = !this.allowed || now.phase !== 'draining';
  },

  drain(now) {
    const { drain_grace_seconds: grace, drain_max_seconds: most, pid } = this.hello;
    const clients = count(sum(now.cores, 'open'));
    ask({
      title: 'Start a drain?',
      text:
        `The port closes ${grace ? `in ${grace} s` : 'at once'}. Each of the ${clients} clients is closed when nothing is under way for it, ` +
        `and whoever is left after ${most} s is cut off. Then process ${pid} ends. Until then the drain can be cancelled.`,
      yes: 'Start the drain',
      run: async () => {
        await act('actions/drain', {});
        announce('The drain has begun.');
      },
    });
  },

  cancel() {
    ask({
      title: 'Cancel the drain?',
      text: 'The port opens again, and whoever is still here stays. Clients that were closed come back by themselves.',
      yes: 'Cancel the drain',
      run: async () => {
        await act('actions/cancel', {});
        announce('The drain is cancelled.');
      },
    });
  },

  close({ connection, address, in_flight: underWay }) {
    const busy = underWay > 0 ? ` ${count(underWay)} of its requests are under way.` : '';
    ask({
      title: `Close connection ${connection}?`,
      text:
        `It comes from ${address}.${busy} It is closed with 1012 as soon as nothing is under way for it, as by a drain; its browser may ` +
        'connect again at once.',
      yes: 'Close it',
      choice: 'At once, with 1001, whatever is under way',
      run: async (now) => {
        await act('actions/close', { connection, now });
        announce(`Connection ${connection} is being closed.`);
        clients.load(null);
      },
    });
  },
};

byId('ask-no').addEventListener('click', () => byId('ask').close());
byId('drain-open').addEventListener('click', () => actions.drain(latest));
byId('cancel-open').addEventListener('click', () => actions.cancel());
