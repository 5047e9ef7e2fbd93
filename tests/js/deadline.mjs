// Waits that end: each says what was awaited when its time is up.

/** The outcome of `promise`, or an error that names `what` after `ms` milliseconds. */
export async function within(ms, what, promise) {
  const late = new Error(`${ms} ms were not enough for: ${what}`);
  let timer;
  const expiry = new Promise((_, reject) => {
    timer = setTimeout(() => reject(late), ms);
  });
  try {
    return await Promise.race([promise, expiry]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Asks again and again until `ask` gives something truthy, and hands that back. For state that no event
 * announces; `ask` may throw, and then its last error is told too.
 */
export async function until(ms, what, ask, pauseMs = 20) {
  const end = performance.now() + ms;
  let last = '';
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = `the last answer was ${JSON.stringify(answer)}`;
    } catch (error) {
      last = `the last error was ${error.message}`;
    }
    if (performance.now() >= end) throw new Error(`${ms} ms were not enough for: ${what}; ${last}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** Resolves after `ms`: for faults whose moment is the point, never to wait for an outcome. */
export function elapse(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
