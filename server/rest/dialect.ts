/** What a body schema has to offer: reading a request, rendering its answers whole or as a stream. */
import type { GenerationParameters, PredictEvent, PredictResult, Prompt } from '../service/types.js';

/** A request body, read. */
export interface Ask {
  /** One per input. */
  readonly prompts: readonly Prompt[];
  /** True: `inputs` was a list, and so is the answer. */
  readonly isList: boolean;
  readonly parameters: Partial<GenerationParameters>;
  readonly stream: boolean;
  /** How the body calls a field that the service names in an error. */
  nameOf(field: string): string;
  /** Names of the body that mean nothing here. */
  readonly ignored: readonly string[];
  /**
   * The whole answer as a JSON value.
   * @param model what the answer calls the model
   */
  answer(results: readonly PredictResult[], model: string): unknown;
  /**
   * @param sse true where the client accepts `text/event-stream`
   * @param model what the answer calls the model
   */
  renderer(sse: boolean, model: string): StreamRenderer;
}

/** The place in a body's `adapters` that the service calls `inputs[i].adapters...`; undefined for other fields. */
export function adapterPlace(field: string, isList: boolean): string | undefined {
  const [, index, rest] = /^inputs\[(\d+)\]\.adapters(.*)$/.exec(field) ?? [];
  return index === undefined ? undefined : `adapters${isList ? `[${index}]` : ''}${rest}`;
}

/** Turns the events of one stream into text; holds no more than the newest token of each input. */
export interface StreamRenderer {
  readonly contentType: string;
  /** Text to send for an event; '' where it is held. */
  event(event: PredictEvent): string;
  /** True: something is held that {@link flush} would give out. */
  readonly holding: boolean;
  /** Gives out what is held, because no further event is there yet. */
  flush(): string;
  /** After the last event. */
  end(): string;
  /**
   * Instead of the rest, when the generation fails after the first event.
   * @param told what the last line says
   */
  failure(told: object): string;
}
