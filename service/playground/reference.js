/** All requests to try, as /docs, which a browser could only open without the key. */

import { key, server } from "./api.js";

SwaggerUIBundle({
  url: `${server}/openapi.json`,
  dom_id: "#reference",
  requestInterceptor(request) {
    if (key.get() && request.url.startsWith(`${server}/`)) request.headers.authorization = `Bearer ${key.get()}`;
    return request;
  },
});
