// Hook of a handler's thread: `@loramux/sdk/handler` is the installed package where there is one, else this server's own.
let own;

export function initialize({ source }) {
  own = new URL(source.endsWith('.ts') ? '../../sdk/handler.ts' : '../../sdk/handler.js', source).href;
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (specifier !== '@loramux/sdk/handler' || error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    return next(own, context);
  }
}
