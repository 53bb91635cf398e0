/** What the services are built from: a loaded model and the leases on its adapters. `server/main.ts` puts them together. */
import type { AdapterSummary } from '../adapters/prepare-adapter.js';
import type { AdapterBase } from '../adapters/types.js';
import type { Engine } from '../engine/engine.js';
import type { ChatTemplate } from '../text/chat-template.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { EncodeAside } from './encode-messages.js';
import type { CallContext } from './inference-types.js';
import type { AdapterSelection, ModelInfo } from './types.js';

/** A model that is ready to answer. */
export interface LoadedModel {
  readonly info: ModelInfo;
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  /** The same tokenizer in a thread of its own, for long texts; absent = none. */
  readonly encodeAside?: EncodeAside | undefined;
  readonly chatTemplate: ChatTemplate;
  /** End-of-sequence ids of generation_config.json, else config.json; may be several. */
  readonly eosIds: readonly number[];
  readonly base: AdapterBase;
  /** Ends the engine and closes the files. */
  close(): Promise<void>;
}

/** An adapter that a row may use until it releases it; meanwhile neither deletion nor a new version touches it. */
export interface AdapterLease {
  /** As the request named it. */
  readonly name: string;
  readonly digest: string;
  readonly weight: number;
  /** The adapter that the name led to, where the name is an alias. */
  readonly resolved?: string | undefined;
  /** Ids that switch an activated adapter (aLoRA) on; undefined for others. */
  readonly invocationTokens?: readonly number[] | undefined;
  /** How many ids the adapter knows, where that is not the model's number. */
  readonly vocabularySize?: AdapterSummary['vocabularySize'];
  /** What the tokenizer files beside it say. */
  readonly text?: AdapterSummary['text'];
}

/** How long a call waits for adapters: until its signal aborts. Where it has no deadline, not for ever. */
export type Patience = Pick<CallContext, 'signal' | 'deadline'>;

/** Hands out leases: loads what is not resident, refuses what is unknown. */
export interface AdapterLeases {
  /**
   * Leases every adapter of every selection at once, or none: throws ADAPTER_NOT_REGISTERED naming all unknown names
   * (metadata `adapter`, `near` = close names), ADAPTER_FAILED, LORA_DISABLED, ADAPTER_MEMORY_EXHAUSTED, QUEUE_FULL,
   * MODEL_NOT_FOUND.
   * @param engine what the rows will run on; where the name is another model's by now, it is as if it were gone
   * @returns one lease list per selection, and a release per selection (idempotent), to call when its row has ended.
   */
  acquire(
    model: string,
    selections: readonly AdapterSelection[],
    patience: Patience,
    engine?: Engine,
  ): Promise<readonly { readonly leases: readonly AdapterLease[]; release(): void }[]>;
}
