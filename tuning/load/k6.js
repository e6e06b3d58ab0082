// k6 (https://k6.io): k6 run tuning/load/k6.js. NOT RUN HERE: written by its documentation. k6 comes as a binary of its own and
// is neither in Debian nor among the packages that could be had where the other recipes were run.
//
// 100 clients that come within 10 s and stay for 30; each asks every second, and every reply must hold the sum.
import ws from 'k6/ws';
import { check } from 'k6';
import { Trend } from 'k6/metrics';

const url = __ENV.URL || 'ws://127.0.0.1:7682/osrf-websocket-translator';
const latency = new Trend('opensrf_reply', true);

export const options = {
  scenarios: {
    staff: {
      executor: 'ramping-vus',
      startVUs: 0,
      stages: [{ duration: '10s', target: 100 }, { duration: '20s', target: 100 }],
    },
  },
  thresholds: { checks: ['rate==1.0'] },
};

function request(trace) {
  const payload = { __c: 'osrfMethod', __p: { method: 'add', params: [19, 23] } };
  const message = { __c: 'osrfMessage', __p: { threadTrace: trace, type: 'REQUEST', payload } };
  return JSON.stringify({ service: 'opensrf.math', thread: `t${trace}`, osrf_msg: [message] });
}

export default function () {
  let trace = 0;
  let asked = 0;
  const response = ws.connect(url, {}, (socket) => {
    socket.on('open', () => {
      socket.setInterval(() => {
        trace += 1;
        asked = Date.now();
        socket.send(request(trace));
      }, 1000);
      socket.setTimeout(() => socket.close(), 30000);
    });
    socket.on('message', (text) => {
      latency.add(Date.now() - asked);
      check(text, { 'the sum': (text) => text.includes('"content":42') });
    });
    // 1012: the gateway drains. Whatever has no reply may be asked again on a new connection; k6 begins the function anew.
    socket.on('close', (code) => check(code, { 'an end that was agreed on': (code) => [1000, 1005, 1012].includes(code) }));
  });
  check(response, { 'a WebSocket': (response) => response && response.status === 101 });
}
