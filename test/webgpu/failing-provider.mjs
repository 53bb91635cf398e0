// Loaded into a server's threads before anything else: the sessions of the WebGPU provider answer with what a lost device
// says, as the file that LORAMUX_TEST_DEVICE names tells: `lost` = the next run alone; `gone` = all runs, and no session
// can be opened any more. Everything else is the real provider.
import { readFileSync, rmSync } from 'node:fs';
import { InferenceSession } from 'onnxruntime-node';

const file = process.env.LORAMUX_TEST_DEVICE;
const state = () => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return 'well';
  }
};
const { create } = InferenceSession;
InferenceSession.create = async (bytes, options) => {
  const session = await create.call(InferenceSession, bytes, options);
  if (!options?.executionProviders?.includes('webgpu')) return session;
  if (state() === 'gone') throw new Error('Failed to get a WebGPU adapter');
  const run = session.run.bind(session);
  session.run = (...args) => {
    const now = state();
    if (now === 'well') return run(...args);
    if (now === 'lost') rmSync(file);
    return Promise.reject(new Error('WebGPU device lost (2): a valid external Instance reference no longer exists'));
  };
  return session;
};
