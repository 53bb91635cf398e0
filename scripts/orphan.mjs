// A signal to npm ends the shell between npm and this process, but does not reach this process: it is an orphan then.

/** Calls `act` when this process has lost its parent. */
export function onOrphaned(act) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    act();
  }, 100);
  watch.unref();
}
