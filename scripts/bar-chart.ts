/** Bars as an SVG that reads on light and dark pages: one group of bars per row of a bench result. */
import type { BenchResult } from '../bench/result.js';

const WIDTH = 760;
const LABEL_WIDTH = 240;
const BAR = 14;
const GAP = 12;
const COLOURS = ['#3b82c4', '#e08a3c', '#5aa469', '#a867b5', '#c2534f'];

/** The chart of a result's `plot` columns; undefined where nothing is to be drawn. */
export function barChart({ title, columns, rows, plot }: BenchResult): string | undefined {
  if (plot === undefined) return undefined;
  const picked = plot.columns.map((name) => columns.indexOf(name));
  const groups = rows.map((row) => ({ label: String(row[0]), values: picked.map((at) => row[at]) }));
  const numbers = groups.flatMap(({ values }) => values.filter((value) => typeof value === 'number'));
  if (numbers.length === 0) return undefined;
  const most = Math.max(...numbers);
  const parts: string[] = [];
  let y = 54;
  for (const { label, values } of groups) {
    const drawn = values.map((value, i) => ({ value, i })).filter(({ value }) => typeof value === 'number');
    if (drawn.length === 0) continue;
    const middle = y + (drawn.length * BAR) / 2 + 4;
    parts.push(`<text x="${LABEL_WIDTH - 8}" y="${middle}" text-anchor="end">${escaped(label)}</text>`);
    for (const { value, i } of drawn) {
      const length = Math.max(1, ((value as number) / most) * (WIDTH - LABEL_WIDTH - 80));
      parts.push(
        `<rect x="${LABEL_WIDTH}" y="${y}" width="${length.toFixed(1)}" height="${BAR - 2}" fill="${COLOURS[i % COLOURS.length]}"/>`,
        `<text x="${(LABEL_WIDTH + length + 5).toFixed(1)}" y="${y + BAR - 4}">${value}</text>`,
      );
      y += BAR;
    }
    y += GAP;
  }
  const legend = plot.columns
    .map((name, i) => {
      const x = LABEL_WIDTH + i * 170;
      return `<rect x="${x}" y="30" width="10" height="10" fill="${COLOURS[i % COLOURS.length]}"/><text x="${x + 14}" y="39">${escaped(name)}</text>`;
    })
    .join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif" font-size="11" fill="#777"><text x="8" y="18" font-size="14">${escaped(title)} (${escaped(plot.unit)})</text>${legend}${parts.join('')}</svg>\n`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
