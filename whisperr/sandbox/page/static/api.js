// Talking to the server.

/** The JSON that a path answers with; an Error with the server's words when it refuses. */
export async function ask(path, parameters = {}, options = {}) {
  const query = queryOf(parameters);
  const response = await fetch(query ? `${path}?${query}` : path, options);
  const answer = await response.json();
  if (!response.ok) {
    const error = new Error(answer.error || response.statusText);
    error.refused = response.status < 500;
    throw error;
  }
  return answer;
}

/** Send a JSON body. */
export function order(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, {}, { method, headers, body: body && JSON.stringify(body) });
}

/** The query of a URL, without what is empty. */
export function queryOf(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  return new URLSearchParams(given).toString();
}

/** Server-sent events: onMessage for each, onState for "live" and "lost". Returns how to stop. */
export function watch(path, parameters, onMessage, onState) {
  const source = new EventSource(`${path}?${queryOf(parameters)}`);
  source.onopen = () => onState("live");
  source.onerror = () => onState("lost");
  source.onmessage = (message) => onMessage(JSON.parse(message.data));
  return () => source.close();
}
