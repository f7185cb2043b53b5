// morph makes a node like another one and keeps what need not change, so that
// focus, scrolling and open parts stay where they are.
export function morph(a, b) {
  if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName || (a.id || "") !== (b.id || "")) {
    a.replaceWith(document.importNode(b, true));
    return;
  }
  if (a.nodeType !== Node.ELEMENT_NODE) {
    if (a.nodeValue !== b.nodeValue) a.nodeValue = b.nodeValue;
    return;
  }
  if (a.hasAttribute("data-log")) return; // follows a stream of its own
  attributes(a, b);
  const old = [...a.childNodes], fresh = [...b.childNodes];
  fresh.forEach((node, i) => {
    if (i < old.length) morph(old[i], node);
    else a.append(document.importNode(node, true));
  });
  for (const node of old.slice(fresh.length)) node.remove();
}

function attributes(a, b) {
  for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
  for (const { name } of [...a.attributes]) {
    if (!b.hasAttribute(name) && !(name === "open" && a.nodeName === "DETAILS")) a.removeAttribute(name);
  }
}
