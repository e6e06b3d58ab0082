/* Drives a WebSocket in a window or a shared worker, and reports what it sees to whoever served this script. */
'use strict';

/** Asks `rate` times a second for the sum of a number that nobody else asks for and 1, until it is told to stop, and until all that
 * was asked is answered. Nothing is opened anew here. */
function drive(Socket, name, url, rate) {
    const seen = { opens: 0, errors: 0, closes: [], wrong: 0, sent: 0, answered: 0 };
    const waiting = new Map();
    const socket = new Socket(url);
    socket.addEventListener('open', () => { seen.opens += 1; });
    socket.onerror = () => { seen.errors += 1; };
    socket.onclose = (event) => { seen.closes.push([event.code, event.wasClean, socket.readyState]); };
    socket.onmessage = (event) => {
        const envelope = JSON.parse(event.data);
        for (const { __p: message } of envelope.osrf_msg) {
            const number = waiting.get(envelope.thread);
            if (message.type === 'RESULT') {
                if (Number(message.payload.__p.content) !== number + 1) seen.wrong += 1;
            } else if (String(message.payload.__p.statusCode) === '205') {
                if (waiting.delete(envelope.thread)) seen.answered += 1;
                else seen.wrong += 1;
            } else {
                seen.wrong += 1;
            }
        }
    };
    let stopped = false;
    const began = Date.now();
    const base = Math.floor(Math.random() * 1e6) * 1e6;
    setInterval(() => {
        while (!stopped && seen.sent < (Date.now() - began) * rate / 1000 && socket.readyState === socket.OPEN) {
            const number = base + seen.sent;
            const thread = `${name}.${number}`;
            waiting.set(thread, number);
            seen.sent += 1;
            const method = { __c: 'osrfMethod', __p: { method: 'add', params: [number, 1] } };
            const message = { threadTrace: seen.sent, type: 'REQUEST', payload: method };
            socket.send(JSON.stringify({ service: 'opensrf.math', thread, osrf_msg: [{ __c: 'osrfMessage', __p: message }] }));
        }
    }, 10);
    setInterval(async () => {
        const report = { ...seen, waiting: waiting.size, state: socket.readyState, stopped };
        const answer = await fetch(`/report/${name}`, { method: 'POST', body: JSON.stringify(report) });
        stopped = (await answer.text()) === 'stop';
    }, 50);
}
