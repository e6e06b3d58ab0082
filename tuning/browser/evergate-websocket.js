/*
 * A WebSocket that a drain of evergate does not end. To be loaded before opensrf_ws.js (in a shared worker: by importScripts, as the
 * first line of opensrf_ws_shared.js). It takes the place of the browser's WebSocket, behaves as that does, and does one thing more:
 *
 * evergate closes a client with 1012 at an idle gap and at no other time, so what has had no reply then was never relayed. At a
 * 1012 this opens another connection, sends again what was unanswered, sends what was said meanwhile, and shows the page nothing.
 * Every other end of a connection, and a first connection that fails, the page sees as ever.
 *
 * Of OpenSRF it knows `thread`, `threadTrace` and the message types that are answered. What is no text or no envelope is never sent
 * twice. See README.md here for what it cannot do.
 */
(function (scope) {
    'use strict';

    const Browsers = scope.WebSocket;
    if (!Browsers || Browsers.survivesDrains) return;

    /** RFC 6455 section 7.4.2 and IANA's registry: "Service Restart". */
    const DRAINED = 1012;
    /** The pause before the first attempt and the longest, ms. They double in between, also where a connection has stood no longer than
     * that; and each is drawn anew between none and itself: clients that leave together shall not come back together. */
    const PAUSE_MS = { first: 100, longest: 2000 };
    /** The time after which the page is told that the connection has ended, and that of one attempt, ms. */
    const GIVE_UP_MS = 30000;
    const ATTEMPT_MS = 5000;

    const EVENTS = ['open', 'message', 'error', 'close'];

    /** Bytes that this takes on the line. */
    function bytesOf(data) {
        return typeof data === 'string' ? new TextEncoder().encode(data).length : data.size || data.byteLength || 0;
    }

    /** The thread of an envelope and the traces of its messages; of those `asked` that have an answer. Null for all else. */
    function read(data) {
        if (typeof data !== 'string') return null;
        try {
            const { thread, osrf_msg } = JSON.parse(data);
            const messages = [].concat(osrf_msg).map((message) => message.__p);
            const asked = messages.filter((message) => message.type === 'REQUEST' || message.type === 'CONNECT');
            const traces = (of) => of.map((message) => String(message.threadTrace == null ? 0 : message.threadTrace));
            // What evergate cannot attribute it refuses under another name: nobody would know that it was answered.
            const isNamed = thread == null || typeof thread === 'string' || typeof thread === 'number';
            if (!isNamed || !traces(messages).every((trace) => /^-?\d+$/.test(trace))) return null;
            return { thread: String(thread == null ? '' : thread), all: traces(messages), asked: traces(asked) };
        } catch (_) {
            return null;
        }
    }

    class WebSocket extends EventTarget {
        /** The browser's own object for the connection that there is, or that is being opened. */
        #socket;
        #protocols;
        #binaryType = 'blob';
        /** By event: what `on…` holds, and the listener that calls it. */
        #handlers = {};
        /** What was said, in its order, as far as it may have to be sent again: the data, the thread, the traces that wait for an
         * answer; null of what is no envelope, which stays here only until it is sent. */
        #said = [];
        /** Since when it is without a connection, and the 1012 that it owes the page if there will be none. */
        #away = null;
        /** The next pause, and when this connection was opened. */
        #pause = PAUSE_MS.first;
        #openedAt = Date.now();
        /** The page has closed it, or has been told of its end. */
        #over = false;
        /** It was closed by the page while there was no connection, and the page has not been told yet. */
        #isClosing = false;

        constructor(url, protocols) {
            super();
            this.#protocols = protocols;
            this.#take(this.#dial(url), true);
        }

        #dial(url) {
            const socket = this.#protocols === undefined ? new Browsers(url) : new Browsers(url, this.#protocols);
            socket.binaryType = this.#binaryType;
            return socket;
        }

        /** Serves the page by this one from now on. */
        #take(socket, isFirst) {
            this.#socket = socket;
            socket.binaryType = this.#binaryType;
            if (isFirst) socket.onopen = () => this.dispatchEvent(new Event('open'));
            socket.onmessage = (event) => {
                this.#heard(event.data);
                const { data, origin, lastEventId } = event;
                this.dispatchEvent(new MessageEvent('message', { data, origin, lastEventId }));
            };
            socket.onerror = () => this.dispatchEvent(new Event('error'));
            socket.onclose = (event) => {
                if (event.code === DRAINED && !this.#over) {
                    this.#away = { since: Date.now(), event, timer: 0 };
                    if (Date.now() - this.#openedAt > PAUSE_MS.longest) this.#pause = PAUSE_MS.first;
                    this.#tryAgain();
                } else {
                    this.#end(event.code, event.reason, event.wasClean);
                }
            };
        }

        #end(code, reason, wasClean) {
            [this.#over, this.#isClosing] = [true, false];
            this.#said = [];
            this.dispatchEvent(new CloseEvent('close', { code, reason, wasClean }));
        }

        #tryAgain() {
            const pause = this.#pause;
            this.#pause = Math.min(pause * 2, PAUSE_MS.longest);
            this.#away.timer = setTimeout(() => {
                const socket = this.#dial(this.#socket.url);
                this.#away.socket = socket;
                // One that hangs must not outlast its time: to close it is to have it fail.
                const limit = setTimeout(() => socket.close(), ATTEMPT_MS);
                socket.onopen = () => {
                    clearTimeout(limit);
                    this.#away = null;
                    this.#openedAt = Date.now();
                    this.#take(socket, false);
                    this.#sayAgain();
                };
                socket.onclose = () => {
                    clearTimeout(limit);
                    const { since, event } = this.#away;
                    if (Date.now() - since < GIVE_UP_MS) {
                        this.#tryAgain();
                    } else {
                        this.#away = null;
                        this.dispatchEvent(new Event('error'));
                        this.#end(event.code, event.reason, event.wasClean);
                    }
                };
            }, Math.random() * pause);
        }

        #sayAgain() {
            for (const { data } of this.#said) this.#socket.send(data);
            this.#said = this.#said.filter(({ waits }) => waits !== null);
        }

        /** Remembers what may have to be said again. */
        #remember(data, isSent) {
            const envelope = read(data);
            const follows = (of) => this.#said.some(({ thread, waits }) => waits !== null && thread === of);
            // A DISCONNECT has no answer: it goes with what it ends.
            if (envelope && (envelope.asked.length > 0 || follows(envelope.thread))) {
                this.#said.push({ data, thread: envelope.thread, waits: envelope.asked });
            } else if (!isSent) {
                this.#said.push({ data, thread: null, waits: null });
            }
        }

        /** Whatever has an answer, or the first part of one, was relayed. */
        #heard(data) {
            if (this.#said.length === 0) return;
            const reply = read(data);
            if (!reply) return;
            const isAnswered = ({ thread, waits }) => thread === reply.thread && waits.some((trace) => reply.all.includes(trace));
            this.#said = this.#said.filter((said) => said.waits === null || !isAnswered(said));
            const isWaitedFor = ({ thread }) => this.#said.some((said) => said.thread === thread && said.waits.length > 0);
            this.#said = this.#said.filter((said) => said.waits === null || said.waits.length > 0 || isWaitedFor(said));
        }

        send(data) {
            if (arguments.length === 0) throw new TypeError('send() needs what is to be sent');
            if (this.#over || this.#socket.readyState === WebSocket.CONNECTING) return this.#socket.send(data);
            // It is closing, and nobody knows yet with which code: it is kept until then.
            const isOpen = this.#away === null && this.#socket.readyState === WebSocket.OPEN;
            const isBinary = ArrayBuffer.isView(data) || data instanceof ArrayBuffer || data instanceof Blob;
            // It is sent as it is now, whatever becomes of it.
            if (!isBinary) data = String(data);
            else if (!isOpen && ArrayBuffer.isView(data)) data = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
            else if (!isOpen && data instanceof ArrayBuffer) data = data.slice(0);
            this.#remember(data, isOpen);
            if (isOpen) this.#socket.send(data);
        }

        close(code, reason) {
            if (this.#isClosing) return;
            if (this.#away === null) {
                this.#socket.close(code, reason);
                this.#over = true;
                return;
            }
            code = code === undefined ? undefined : Number(code);
            reason = reason === undefined ? '' : String(reason);
            if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
                throw new DOMException(`The close code must be 1000, or 3000 to 4999; ${code} is neither`, 'InvalidAccessError');
            }
            if (bytesOf(reason) > 123) throw new DOMException('The reason has more than 123 bytes', 'SyntaxError');
            clearTimeout(this.#away.timer);
            if (this.#away.socket) {
                this.#away.socket.onopen = this.#away.socket.onclose = null;
                this.#away.socket.close();
            }
            this.#away = null;
            [this.#over, this.#isClosing] = [true, true];
            setTimeout(() => this.#end(code === undefined ? 1005 : code, reason, true));
        }

        get readyState() {
            if (this.#isClosing) return WebSocket.CLOSING;
            return this.#away === null ? this.#socket.readyState : WebSocket.OPEN;
        }

        get bufferedAmount() {
            const kept = this.#away === null ? [] : this.#said;
            return kept.reduce((sum, { data }) => sum + bytesOf(data), this.#socket.bufferedAmount);
        }

        get url() {
            return this.#socket.url;
        }

        get protocol() {
            return this.#socket.protocol;
        }

        get extensions() {
            return this.#socket.extensions;
        }

        get binaryType() {
            return this.#binaryType;
        }

        set binaryType(type) {
            this.#socket.binaryType = type;
            this.#binaryType = this.#socket.binaryType;
        }

        static {
            for (const name of EVENTS) {
                Object.defineProperty(this.prototype, `on${name}`, {
                    get() {
                        return this.#handlers[name]?.call || null;
                    },
                    set(handler) {
                        const held = (this.#handlers[name] ??= { call: null, listener: null });
                        const had = held.call;
                        held.call = typeof handler === 'function' ? handler : null;
                        // One that takes another's place has its turn among the listeners, too.
                        if (!had && held.call) {
                            held.listener = (event) => held.call.call(this, event);
                            this.addEventListener(name, held.listener);
                        } else if (had && !held.call) {
                            this.removeEventListener(name, held.listener);
                        }
                    },
                    enumerable: true,
                    configurable: true,
                });
            }
            ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].forEach((name, value) => {
                for (const of of [this, this.prototype]) Object.defineProperty(of, name, { value, enumerable: true });
            });
        }
    }

    WebSocket.survivesDrains = true;
    scope.WebSocket = WebSocket;
})(globalThis);
