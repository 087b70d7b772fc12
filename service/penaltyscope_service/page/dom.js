/** Elements and lists of elements. Names from outside enter the page as text, never as markup. */

const keys = new WeakMap();

export const byId = (id) => document.getElementById(id);

/** A new element with a class, text and children. */
export function element(tag, className = "", ...content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...content);
  return node;
}

/** A name from outside, isolated: right-to-left characters in it cannot reorder its neighbours. */
export const name = (text) => element("bdi", "", text);

/** Sets text only when it differs, so as not to disturb a selection, or a screen reader. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** As `setText`, and hides the element while there is nothing to say. */
export function say(node, text) {
  setText(node, text);
  node.hidden = text === "";
}

/** Makes the children of `parent` match `items`; the element of a key that stays is kept. */
export function reconcile(parent, items, keyOf, create, update) {
  const kept = new Map([...parent.children].map((child) => [keys.get(child), child]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    const node = kept.get(key) ?? create(item);
    kept.delete(key);
    keys.set(node, key);
    update(node, item);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  for (const node of kept.values()) node.remove();
}
