/** Prometheus metrics of the whole server: what the engines do now, what they did, how requests were answered. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Engine } from '../engine/engine.js';
import type { EngineStats } from '../engine/messages.js';
import { allAdapters } from '../service/all-adapters.js';
import type { AdapterService, AdapterState, ModelInfo } from '../service/types.js';

/** A served model as far as its numbers go. */
export interface MeasuredModel {
  readonly info: Pick<ModelInfo, 'name'>;
  readonly engine: Pick<Engine, 'stats' | 'alive' | 'stalled' | 'device'>;
}

/** Where the numbers come from. */
export interface MetricsSources {
  models(): readonly MeasuredModel[];
  readonly adapters: Pick<AdapterService, 'list'>;
}

/** Seconds; from a fast step to a long prompt on a slow machine. */
const TOKEN_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const REQUEST_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const STATES: readonly AdapterState[] = ['registered', 'loading', 'ready', 'failed', 'deleting'];

/** Registry and the few calls that feed it; everything else is read when a scrape comes. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests: Counter<'route' | 'method' | 'status'>;
  readonly #requestSeconds: Histogram<'route' | 'method'>;
  readonly promptTokens: Counter<'model'>;
  readonly generatedTokens: Counter<'model'>;
  readonly rows: Counter<'model' | 'finish_reason'>;
  readonly queueSeconds: Histogram<'model'>;
  readonly firstTokenSeconds: Histogram<'model'>;
  readonly interTokenSeconds: Histogram<'model'>;
  #next: Promise<string> | undefined;

  constructor(sources: MetricsSources) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
      new Counter({ name: `loramux_${name}_total`, help, labelNames, registers });
    const histogram = <L extends string>(name: string, help: string, labelNames: L[], buckets: number[]) =>
      new Histogram({ name: `loramux_${name}_seconds`, help, labelNames, buckets, registers });
    this.#requests = counter('requests', 'Answered requests.', ['route', 'method', 'status']);
    this.#requestSeconds = histogram('request', 'Time to the end of the answer.', ['route', 'method'], REQUEST_BUCKETS);
    this.promptTokens = counter('prompt_tokens', 'Prompt tokens of finished rows.', ['model']);
    this.generatedTokens = counter('generated_tokens', 'Tokens handed to callers.', ['model']);
    this.rows = counter('rows', 'Rows that an engine had, by what ended them.', ['model', 'finish_reason']);
    this.queueSeconds = histogram('queue', 'Time a row waited for its first step.', ['model'], REQUEST_BUCKETS);
    this.firstTokenSeconds = histogram(
      'time_to_first_token',
      'From submission to the first token of a row.',
      ['model'],
      REQUEST_BUCKETS,
    );
    this.interTokenSeconds = histogram(
      'inter_token',
      'Mean time between the tokens of a row, one observation a row.',
      ['model'],
      TOKEN_BUCKETS,
    );
    registerEngineMetrics(this.#registry, sources);
    registerAdapterMetrics(this.#registry, sources);
  }

  /** Content type of {@link text}. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /**
   * All metrics in the Prometheus text format, as they are after the call. Whoever asks in one turn of the event loop gets one
   * text: a thousand scrapes at once would else hold up all other requests while each is rendered.
   */
  text(): Promise<string> {
    this.#next ??= nextTurn().then(() => {
      this.#next = undefined;
      return this.#registry.metrics();
    });
    return this.#next;
  }

  /** Counts one answered request; `route` is a pattern or a procedure, so that the label has few values. */
  request(route: string, method: string, status: number | string, seconds: number): void {
    this.#requests.inc({ route, method, status });
    this.#requestSeconds.observe({ route, method }, seconds);
  }
}

function registerEngineMetrics(registry: Registry, sources: MetricsSources): void {
  const registers = [registry];
  const ofEngine = (name: string, help: string, read: (engine: MeasuredModel['engine']) => number) =>
    new Gauge({
      name: `loramux_${name}`,
      help,
      labelNames: ['model'],
      registers,
      collect() {
        this.reset();
        for (const { info, engine } of onePerEngine(sources.models())) this.set({ model: info.name }, read(engine));
      },
    });
  const gauge = (name: string, help: string, read: (stats: EngineStats) => number) =>
    ofEngine(name, help, (engine) => read(engine.stats()));
  const state = (name: string, help: string, read: (engine: MeasuredModel['engine']) => boolean) =>
    ofEngine(name, help, (engine) => Number(read(engine)));
  const total = (name: string, help: string, label: string, read: (stats: EngineStats) => Record<string, number>) =>
    new Counter({
      name: `loramux_${name}_total`,
      help,
      labelNames: ['model', label],
      registers,
      collect() {
        // The engine counts; the counter only shows its totals.
        this.reset();
        for (const { info, engine } of onePerEngine(sources.models())) {
          for (const [key, value] of Object.entries(read(engine.stats())))
            this.inc({ model: info.name, [label]: key }, value);
        }
      },
    });
  gauge('running_rows', 'Rows that generate now.', (stats) => stats.runningRows);
  gauge('waiting_rows', 'Rows that wait for a place in the batch.', (stats) => stats.waitingRows);
  gauge('kv_bytes', 'Bytes of the key/value cache in use.', (stats) => stats.kvBytes);
  gauge('prefix_bytes', 'Bytes of the prefix cache.', (stats) => stats.prefixBytes);
  gauge('adapter_bytes', 'Bytes of adapter weights in the engine.', (stats) => stats.adapterBytes);
  gauge('adapters_loaded', 'Adapters whose weights are in the engine.', (stats) => stats.adaptersLoaded);
  total('steps', 'Engine steps.', 'kind', (stats) => ({ prefill: stats.prefillSteps, decode: stats.decodeSteps }));
  total('step_tokens', 'Tokens that engine steps worked on.', 'kind', (stats) => ({
    prefill: stats.prefillTokens,
    decode: stats.decodeTokens,
  }));
  total('prompt_positions', 'Positions of prompts by where they came from.', 'source', (stats) => ({
    computed: stats.prefillTokens,
    cache: stats.cachedTokens,
  }));
  total('row_interruptions', 'Rows that lost their memory to others and were computed again.', 'kind', (stats) => ({
    preempted: stats.preemptions,
  }));
  total('lookup_tokens', 'Tokens that were guessed by look-up in the row itself.', 'outcome', (stats) => ({
    accepted: stats.guessesAccepted,
    rejected: stats.guessesRejected,
  }));
  total(
    'device_restarts',
    'Times that a device failed and was opened anew, with the model on it.',
    'kind',
    (stats) => ({
      failed: stats.deviceRestarts ?? 0,
    }),
  );
  total('step_seconds', 'Time in engine steps, inside and outside of the graph.', 'part', (stats) => ({
    run: stats.runMs / 1000,
    overhead: stats.overheadMs / 1000,
  }));
  new Gauge({
    name: 'loramux_engine_device',
    help: '1 for the device that the model runs on now.',
    labelNames: ['model', 'device'],
    registers,
    collect() {
      this.reset();
      for (const { info, engine } of onePerEngine(sources.models())) {
        if (engine.device !== undefined) this.set({ model: info.name, device: engine.device.name }, 1);
      }
    },
  });
  state('engine_up', '1 while the engine of the model runs.', ({ alive }) => alive);
  state('engine_stalled', '1 while a step of the engine does not return.', ({ stalled }) => stalled !== undefined);
}

/** Models of several names may share an engine, which must not be counted twice: the first name stands for it. */
function onePerEngine(models: readonly MeasuredModel[]): readonly MeasuredModel[] {
  return models.filter(({ engine }, at) => models.findIndex((other) => other.engine === engine) === at);
}

function registerAdapterMetrics(registry: Registry, sources: MetricsSources): void {
  new Gauge({
    name: 'loramux_adapters',
    help: 'Registered adapters by state.',
    labelNames: ['model', 'state'],
    registers: [registry],
    async collect() {
      this.reset();
      for (const { info } of sources.models()) {
        const counts = await countStates(sources.adapters, info.name);
        for (const [state, count] of counts) this.set({ model: info.name, state }, count);
      }
    },
  });
}

async function countStates(adapters: Pick<AdapterService, 'list'>, model: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>(STATES.map((state) => [state, 0]));
  for (const { state } of await allAdapters(adapters, model)) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}
