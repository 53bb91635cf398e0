/** The process: arguments in, server up, signals handled. The only module of the server that touches `process`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { composeServer, type Server } from './compose.js';
import { ConfigError } from './config/config-error.js';
import { parseInvocation } from './config/parse.js';
import type { ServeConfig } from './config/serve-config.js';
import { findHardware } from './engine/webgpu/choose-device.js';
import { AppError } from './errors.js';
import { tryAddress } from './listener/try-address.js';
import { createLogger } from './observe/logger.js';
import { dropHeartbeats } from './sources/heartbeat-file.js';
import { startMessage } from './start-message.js';
import { endAllThreads, heldThreads } from './threads.js';

/** Exit code for a command line, model or address that cannot be used. */
const EXIT_USAGE = 2;
/** Exit code of `validate` for an adapter that would be refused, and of `doctor` for a test that failed. */
const EXIT_REFUSED = 1;

/** What ends the server. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Two signals within this time are one. */
const REPEATED_SIGNAL_MS = 1000;

/** How long after a second signal threads may take to leave the native call that they are in. */
const HURRY_MS = 2000;

/** How long after the grace period everything may take to close; a native call that never returns would hold it up. */
const FORCE_MS = 15_000;

/** Folder of the package, or of its compiled copy, which says where the package lies (scripts/compile.mjs). */
const here = fileURLToPath(new URL('../', import.meta.url));

async function main(): Promise<void> {
  // Whoever read them may leave at any time; unheard, that is an exception, whose log line is the next one.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  // Amazon's library would tell whoever serves this what its later versions will need: the version here is fixed.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
  const manifest = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')) as {
    version: string;
    package?: string;
  };
  const { version } = manifest;
  const invocation = parseInvocation({
    argv: process.argv.slice(2),
    env: process.env,
    cwd: process.cwd(),
    packageRoot: manifest.package ?? here,
    version,
  });
  if (invocation.kind === 'print') {
    process.stdout.write(invocation.text);
    return;
  }
  if (invocation.kind === 'validate') {
    const { checkAdapter } = await import('./check-adapter.js');
    for (const remark of invocation.remarks) process.stderr.write(`loramux: ${remark}\n`);
    const { text, valid } = await checkAdapter(invocation);
    process.stdout.write(text);
    process.exitCode = valid ? 0 : EXIT_REFUSED;
    return;
  }
  if (invocation.kind === 'probe') {
    const { probeHere } = await import('./doctor/gpu-findings.js');
    process.stdout.write(JSON.stringify(await probeHere()));
    return;
  }
  if (invocation.kind === 'doctor') {
    const [{ examine }, { renderReport }] = await Promise.all([
      import('./doctor/doctor.js'),
      import('./doctor/report.js'),
    ]);
    if (process.stderr.isTTY) process.stderr.write('opens the GPU, then tests the server on the demo model\n');
    const report = await examine(invocation.demo, {
      platform: process.platform,
      architecture: process.arch,
      env: process.env,
      versions: { loramux: version, node: process.versions.node },
      self: { command: process.execPath, args: [...process.execArgv, process.argv[1]!] },
    });
    process.stdout.write(invocation.json ? `${JSON.stringify(report, null, 2)}\n` : renderReport(report));
    process.exitCode = report.healthy ? 0 : EXIT_REFUSED;
    return;
  }
  const { config } = invocation;
  process.on('exit', dropHeartbeats);
  const stopEnding = endBeforeServing();
  const log = createLogger(config.logLevel, process.stderr);
  await tryAddress(config.host, config.port).catch((error: unknown) => {
    throw cannotListen(config, error);
  });
  const server = await composeServer(config, log, findHardware({ platform: process.platform, env: process.env }));
  stopEnding();
  await serve(server, config, log);
}

/**
 * Loading or fetching may take minutes: a signal ends it, and what others would wait for goes, too.
 * @returns leaves signals to others
 */
function endBeforeServing(): () => void {
  const leave = () => {
    for (const signal of SIGNALS) process.off(signal, end);
  };
  const end = (signal: NodeJS.Signals) => {
    leave();
    dropHeartbeats();
    // The first process of a container dies of no signal that it sends itself.
    if (process.pid === 1) process.exit(1);
    process.kill(process.pid, signal);
  };
  for (const signal of SIGNALS) process.on(signal, end);
  return leave;
}

async function serve(server: Server, config: ServeConfig, log: ReturnType<typeof createLogger>): Promise<void> {
  let stoppingSince: number | undefined;
  let hurrying = false;
  const stop = (signal: string) => {
    if (stoppingSince !== undefined) {
      // A signal to the whole process group may arrive twice: from the sender and from the parent that passes it on.
      if (performance.now() - stoppingSince < REPEATED_SIGNAL_MS) return;
      if (hurrying) return;
      hurrying = true;
      log.warn({ signal }, 'second signal: ending at once');
      server.cut();
      // That threads end is no failure now.
      log.level = 'silent';
      void endAllThreads(HURRY_MS).then((gone) => {
        if (gone) process.exit(1);
        log.level = 'error';
        killItself(log, 'a native call holds a thread');
      });
      return;
    }
    stoppingSince = performance.now();
    log.info({ signal }, 'shutting down');
    setTimeout(() => killItself(log, 'closing takes too long'), config.graceMs + FORCE_MS).unref();
    server.close(config.graceMs).then(
      () => end(hurrying ? 1 : 0, log),
      (error: unknown) => {
        log.error({ err: error }, 'shutdown failed');
        end(1, log);
      },
    );
  };
  for (const signal of SIGNALS) process.on(signal, () => stop(signal));
  process.on('uncaughtException', (error) => log.error({ err: error }, 'uncaught exception'));
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled rejection'));

  let url: string;
  try {
    url = await server.listen();
  } catch (error) {
    await server.close(0);
    throw cannotListen(config, error);
  }
  const adapters = await Promise.all(server.models.map(({ name }) => server.adapters(name)));
  process.stdout.write(startMessage(url, server.models, adapters, server.registry));
}

function cannotListen({ host, port }: ServeConfig, cause: unknown): ConfigError {
  return new ConfigError(`cannot listen on ${host}:${port}: ${(cause as Error).message}`, { cause });
}

/** Ends the process; one that a native call holds would wait for it, maybe for ever. */
function end(code: number, log: ReturnType<typeof createLogger>): never {
  if (heldThreads() > 0) killItself(log, 'a native call holds a thread');
  process.exit(code);
}

function killItself(log: ReturnType<typeof createLogger>, why: string): void {
  log.error(`${why}, so the process kills itself`);
  process.kill(process.pid, 'SIGKILL');
  // Only the first process of a container is still there: it dies of no signal that it sends itself.
  process.abort();
}

/** What the system gives this process too few of, where that was the fault. */
function shortage(error: unknown): string | undefined {
  for (let at = error as NodeJS.ErrnoException | undefined; at instanceof Error; at = at.cause as typeof at) {
    const { code, message } = at;
    // Threads have their own loops, which have files.
    const which = code === 'ERR_WORKER_INIT_FAILED' ? (/[A-Z]+$/.exec(message)?.[0] ?? code) : code;
    if (which === 'EMFILE' || which === 'ENFILE') {
      return `this process may not open enough files (${which}); allow it more, for example by: ulimit -n 4096`;
    }
    if (which !== code) {
      return `this process may not start enough threads (${which}); allow its user, or its container, more of them`;
    }
  }
  return undefined;
}

/** What a start that failed is told with, where it is no fault of the program; undefined = it is one. */
function refusalOf(error: unknown): string | undefined {
  const lacking = shortage(error);
  if (lacking !== undefined) return lacking;
  if (error instanceof ConfigError) return error.message;
  if (error instanceof AppError && error.reason !== 'INTERNAL') return error.message;
  const { cause } = error as Error;
  // What the system refuses names the file and the reason.
  const { syscall, message } = (error instanceof AppError ? cause : error) as NodeJS.ErrnoException;
  if (syscall === undefined) return undefined;
  return error instanceof AppError ? `${error.message}: ${message}` : message;
}

main().catch((error: unknown) => {
  const refusal = refusalOf(error);
  if (refusal !== undefined) {
    process.stderr.write(`loramux: ${refusal.replaceAll('\n', ' ')}\n`);
    process.exit(EXIT_USAGE);
  }
  const fault = error instanceof AppError ? (error.cause ?? error) : error;
  process.stderr.write(`loramux: ${fault instanceof Error ? (fault.stack ?? fault.message) : String(fault)}\n`);
  process.exit(1);
});
