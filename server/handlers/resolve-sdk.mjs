// Hook of a handler's thread: `@loramux/sdk/handler` is the installed package where there is one, else this server's own;
// and a .ts file is a module, whether or not a package.json beside it says so.
let own;

export function initialize({ source }) {
  own = new URL(source.endsWith('.ts') ? '../../sdk/handler.ts' : '../../sdk/handler.js', source).href;
}

export async function resolve(specifier, context, next) {
  try {
    const resolved = await next(specifier, context);
    return /\.ts$/.test(resolved.url.replace(/[?#].*$/, '')) ? { ...resolved, format: 'module' } : resolved;
  } catch (error) {
    if (specifier !== '@loramux/sdk/handler' || error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    return next(own, context);
  }
}
