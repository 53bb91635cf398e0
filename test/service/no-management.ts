/** Management of models and workflows for tests that do not come to it. */
import { AppError } from '../../server/errors.js';
import type { ModelStatus } from '../../server/service/management.js';
import type { ModelInfo, Services } from '../../server/service/types.js';

const refuse = (): never => {
  throw new AppError('UNIMPLEMENTED', 'not needed');
};

/** Tells of the models that are given, and refuses every change. */
export function unmanaged(infos: readonly ModelInfo[]): Pick<Services, 'management' | 'workflows'> {
  const list = infos
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((info): ModelStatus => {
      const numbers = { runningRows: 0, waitingRows: 0, maxBatch: 16, maxQueue: 1000, createdAt: 0 };
      const { name, path: url } = info;
      return { ...numbers, name, url, info, state: 'ready', startup: true, direct: true, workflows: [] };
    });
  const get = (name: string): ModelStatus => {
    const found = list.find((model) => model.name === name);
    if (found === undefined) throw new AppError('MODEL_NOT_FOUND', `model ${name} is not registered`);
    return found;
  };
  return {
    management: { list: () => list, get, register: refuse, unregister: refuse },
    workflows: {
      list: () => [],
      get: refuse,
      register: refuse,
      unregister: refuse,
      schedule: refuse,
      definitionAt: async () => false,
    },
  };
}
