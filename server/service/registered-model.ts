/** A registered model from the moment it has a name, and what is told of it. */
import { type Engine, takesRows } from '../engine/engine.js';
import { redactSource } from '../sources/source.js';
import type { AdapterHealth, ModelOverrides, ModelState, ModelStatus } from './management.js';
import type { OpenedModel } from './model-description.js';
import type { PooledModel } from './model-pool.js';
import type { ModelInfo } from './types.js';

/** A registered model. */
export interface RegisteredModel {
  readonly name: string;
  readonly url: string;
  readonly overrides: ModelOverrides;
  readonly startup: boolean;
  readonly createdAt: number;
  readonly stop: AbortController;
  readonly workflows: Set<string>;
  direct: boolean;
  /** Revision that its record was written with; absent = it is not kept, or not yet. */
  revision?: number | undefined;
  /** True while this process unregisters it, and so looks after its end. */
  leaving?: boolean;
  state: ModelState;
  error?: string;
  /** Key of its engine, as soon as it was opened. */
  key: Promise<string>;
  /** Resolves when it is ready; rejects when it failed. */
  ready: Promise<void>;
  opened?: OpenedModel;
  pooled?: PooledModel;
  /** What its handler tells of it; absent = it has none. */
  handler?: ModelInfo;
}

/**
 * A model that begins to load.
 * @param facts `workflow`: id of the one that it is for; undefined = it is registered by itself
 */
export function newModel(
  name: string,
  url: string,
  facts: Pick<RegisteredModel, 'overrides' | 'startup' | 'stop' | 'revision' | 'key'> & {
    workflow: string | undefined;
  },
): RegisteredModel {
  const { workflow, ...others } = facts;
  return {
    ...{ name, url, ...others },
    createdAt: Date.now(),
    workflows: new Set(workflow === undefined ? [] : [workflow]),
    direct: workflow === undefined,
    state: 'loading',
    ready: Promise.resolve(),
  };
}

/**
 * What the surfaces are told of it.
 * @param health how the adapters of a model are
 */
export function statusOf(model: RegisteredModel, health: (name: string) => AdapterHealth | undefined): ModelStatus {
  const { name, url, state, startup, direct, workflows, createdAt, pooled, opened } = model;
  const options = opened?.options;
  const loaded = pooled?.model;
  const stats = loaded?.engine.stats();
  const fault = state === 'ready' && loaded !== undefined ? faultOf(loaded.engine) : undefined;
  const error = fault ?? model.error;
  return {
    name,
    url: redactSource(url),
    ...(opened?.origin !== undefined && { origin: opened.origin }),
    state: fault === undefined ? state : 'failed',
    ...(error !== undefined && { error }),
    ...(loaded === undefined && model.handler !== undefined && { info: model.handler }),
    ...(loaded !== undefined && {
      info: {
        ...loaded.info,
        ready: takesRows(loaded.engine),
        ...(model.handler && { handler: model.handler.handler }),
      },
    }),
    startup,
    direct,
    get adapters() {
      return health(name);
    },
    workflows: [...workflows].sort(),
    runningRows: stats?.runningRows ?? 0,
    waitingRows: stats?.waitingRows ?? 0,
    maxBatch: options?.maxBatch ?? 0,
    maxQueue: options?.maxQueue ?? 0,
    createdAt,
  };
}

/** Why an engine takes no rows; undefined = it does. */
function faultOf({ alive, failure, stalled }: Engine): string | undefined {
  if (!alive) return `the engine has stopped${failure === undefined ? '' : `: ${failure}`}`;
  return stalled === undefined ? undefined : `the engine does not move: ${stalled}`;
}
