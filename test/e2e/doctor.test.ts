/** `loramux doctor` as a command: the report, its exit code, and what it says when something is wrong. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { composeServer } from '../../server/compose.js';
import { parseInvocation } from '../../server/config/parse.js';
import { findGpu } from '../../server/doctor/gpu-findings.js';
import { describeMachine } from '../../server/doctor/machine.js';
import type { DoctorReport } from '../../server/doctor/report.js';
import { selfTest } from '../../server/doctor/self-test.js';
import { createLogger } from '../../server/observe/logger.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Runs the command. */
const doctor = (...flags: string[]) => doctorOf([process.execPath], ...flags);

/** @param node what runs a script */
function doctorOf(
  [command, ...before]: readonly string[],
  ...flags: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const args = [...before, join(root, 'bin/loramux.mjs'), 'doctor', ...flags];
  return new Promise((resolve) => {
    execFile(command!, args, { cwd: root }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

test('reports the machine and a self-test that passes', async () => {
  const { code, stdout, stderr } = await doctor('--json', '--device', 'cpu');
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as DoctorReport;
  assert.equal(report.healthy, true);
  assert.equal(report.versions.node, process.versions.node);
  assert.deepEqual(report.providers.find(({ name }) => name === 'cpu')?.bundled, true);
  assert.ok(report.machine.memory.total >= report.machine.memory.free);
  assert.deepEqual([report.selfTest.passed, report.selfTest.answers], [true, 96]);
  assert.equal(report.selfTest.device?.name, 'cpu');
  for (const speed of Object.values(report.selfTest.tokensPerSecond)) assert.ok(speed > 0);
  if (!report.gpu.opened) assert.match(report.gpu.fault, /^[^/]/);
  else assert.equal(report.floats?.floats, report.gpu.half ? 'fp16' : 'fp32');
});

test('tells of a limit of open files that is low', async () => {
  const { code, stdout } = await doctorOf(
    ['sh', '-c', 'ulimit -n 300; exec "$@"', 'sh', process.execPath],
    '--device',
    'cpu',
  );
  assert.equal(code, 0, stdout);
  assert.match(stdout, /^open files +at most 300, which is LOW/m);
});

test('refuses a device, and a place for keys and values, that do not exist', async () => {
  const { code, stderr } = await doctor('--device', 'tpu');
  assert.equal(code, 2);
  assert.match(stderr, /^loramux: --device tpu: .*webgpu/);
  const other = await doctor('--device-kv', 'pages');
  assert.equal(other.code, 2);
  assert.match(other.stderr, /^loramux: --device-kv pages: .*paged/);
});

test('a wrong answer fails the self-test and is named', async (t) => {
  const packageRoot = mkdtempSync(join(tmpdir(), 'doctor-'));
  t.after(() => rmSync(packageRoot, { recursive: true }));
  const demo = join(packageRoot, 'models/demo');
  cpSync(join(root, 'models/demo'), demo, { recursive: true });
  // French answers where pirate's were expected.
  const adapters = join(demo, 'adapters');
  rmSync(join(adapters, 'pirate'), { recursive: true });
  symlinkSync(join(adapters, 'french'), join(adapters, 'pirate'));
  const argv = ['serve', '--port', '0', '--state-dir', 'none', '--allow-path', adapters];
  const invocation = parseInvocation({ argv, env: {}, cwd: packageRoot, packageRoot, version: '0' });
  assert.ok(invocation.kind === 'serve');
  const result = await selfTest(demo, () =>
    composeServer(invocation.config, createLogger('silent', { write: () => {} })),
  );
  assert.equal(result.passed, false);
  assert.ok(result.faults.length > 0);
  assert.ok(result.faults.every((fault) => /^pirate, (text|chat) ".*": token \d+ is \d+, not \d+$/.test(fault)));
});

test('a demo model that cannot be served is a fault of the report, not a crash', async () => {
  const result = await selfTest('nowhere', () => Promise.reject(new Error('no config.json')));
  assert.deepEqual([result.passed, result.device, result.faults], [false, undefined, ['no config.json']]);
});

test('a driver that ends the process is reported', async () => {
  const crash = { command: process.execPath, args: ['-e', 'process.kill(process.pid, "SIGSEGV")', '--'] };
  assert.deepEqual(await findGpu(crash, undefined), {
    opened: false,
    fault: 'the process that tried it ended with SIGSEGV',
  });
});

test('memory and processor limits are the least of all cgroups above the process', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'machine-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = (path: string, text: string) => {
    mkdirSync(join(folder, path, '..'), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  file('proc/cpuinfo', 'processor\t: 0\nflags\t\t: fpu avx2 fma avx512_vnni md_clear\n');
  file('proc/meminfo', 'MemTotal: 100 kB\nMemAvailable: 64 kB\n');
  file(
    'proc/self/limits',
    'Limit  Soft Limit  Hard Limit  Units\nMax open files            256                  256                  files\n',
  );
  file('proc/self/cgroup', '0::/pods/one\n');
  file('sys/fs/cgroup/pods/memory.max', '4096\n');
  file('sys/fs/cgroup/pods/one/memory.max', 'max\n');
  file('sys/fs/cgroup/pods/one/cpu.max', '150000 100000\n');
  const second = describeMachine('linux', 'x64', folder);
  assert.deepEqual(second.processor.instructionSets, ['avx2', 'fma', 'avx512_vnni']);
  assert.deepEqual([second.memory.free, second.memory.limit, second.processor.limit], [65_536, 4096, 1.5]);
  assert.equal(second.openFiles, 256);

  file('proc/self/cgroup', '5:cpu,cpuacct:/a\n4:memory:/a/b\n');
  file('sys/fs/cgroup/memory/a/memory.limit_in_bytes', '8192\n');
  file('sys/fs/cgroup/memory/a/b/memory.limit_in_bytes', '9223372036854771712\n');
  file('sys/fs/cgroup/cpu/a/cpu.cfs_quota_us', '-1\n');
  file('sys/fs/cgroup/cpu/a/cpu.cfs_period_us', '100000\n');
  const first = describeMachine('linux', 'x64', folder);
  assert.deepEqual([first.memory.limit, first.processor.limit], [8192, undefined]);
});
