/**
 * The line on which the workspace tells what happens: a WebSocket, because a browser opens many of them and only six
 * event streams; an event stream where a WebSocket is not to be had. A broken line is tried again, ever more slowly.
 */

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 10_000;

/**
 * Follows what happens, as `user` sees it; with `inspect` also every frame and call. `opened` runs at each
 * (re)connection, so that what was missed can be read again; `happened` hears each event; `lost(ms)` hears that the
 * line broke and when it is tried again. Returns a function that stops following.
 */
export function follow(user, { opened, happened, lost, inspect = false }) {
  const query = new URLSearchParams({ user, ...(inspect ? { inspect: 1 } : {}) });
  let [close, timer, failures, stopped, streamed] = [() => {}, null, 0, false, false];

  function connect() {
    const connection = streamed ? eventStream : webSocket;
    let open = false;
    close = connection(query, {
      opened: () => {
        open = true;
        failures = 0;
        opened();
      },
      happened,
      broken: async () => {
        if (stopped) return;
        streamed = !open && !streamed && (await answers(user));
        if (stopped) return;
        const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures) * (0.75 + Math.random() / 2);
        failures += 1;
        lost(wait);
        timer = setTimeout(again, wait);
      },
    });
  }

  function again() {
    timer = null;
    connect();
  }

  function soon() {
    if (stopped || timer === null || document.visibilityState !== "visible" || failures < 3) return;
    clearTimeout(timer);
    again();
  }

  document.addEventListener("visibilitychange", soon);
  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", soon);
    close();
  };
}

/** Whether plain requests come through, so that only the WebSocket is missing. */
async function answers(user) {
  try {
    return (await fetch(`/_control/views?${new URLSearchParams({ user })}`)).ok;
  } catch {
    return false;
  }
}

function webSocket(query, { opened, happened, broken }) {
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/_control/ws?${query}`);
  socket.onopen = opened;
  socket.onmessage = (event) => happened(JSON.parse(event.data));
  socket.onclose = broken;
  return () => {
    socket.onclose = null;
    socket.close();
  };
}

function eventStream(query, { opened, happened, broken }) {
  const source = new EventSource(`/_control/events?${query}`);
  source.onopen = opened;
  source.onmessage = (event) => happened(JSON.parse(event.data));
  source.onerror = () => {
    source.close();
    broken();
  };
  return () => source.close();
}
