/** How long a row of a running server may be. */

/** Tokens of prompt and answer together that the only model of a server takes. */
export async function contextOf(url: string): Promise<number> {
  const { models } = (await (await fetch(`${url}/models`)).json()) as { models: { modelName: string }[] };
  const [{ models: described } = { models: [] }] = (await (
    await fetch(`${url}/models/${encodeURIComponent(models[0]!.modelName)}`)
  ).json()) as { models: { contextLength: number }[] }[];
  return described[0]!.contextLength;
}
