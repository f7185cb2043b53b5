// The API under /api/v1, and what people are told of its answers.
export const base = document.documentElement.dataset.base || "";
export const api = base + "/api/v1";

// call sends JSON and returns the answer; an error's message has the hint.
export async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(api + path, options);
  } catch (e) {
    throw new Error("The service does not answer. Nothing was changed, as far as this page knows.");
  }
  if (response.status === 401) {
    location.assign(base + "/login?next=" + encodeURIComponent(location.pathname.slice(base.length) + location.search));
    throw new Error("You are signed out.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const e = answer.error || {};
    throw new Error([e.message || `The service refused (${response.status}).`, e.hint].filter(Boolean).join(" "));
  }
  return answer;
}

let timer;
// tell shows a line for a while, and has it read out.
export function tell(text) {
  const place = document.getElementById("status");
  clearTimeout(timer);
  place.textContent = text;
  place.classList.add("shown");
  timer = setTimeout(() => { place.classList.remove("shown"); place.textContent = ""; }, 8000);
}
