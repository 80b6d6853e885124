/**
 * What a device knows of its user's content: a snapshot, and the events since.
 *
 * To hear of something twice does no harm: a snapshot may hold what an event tells afterwards.
 *
 * @module
 */

export class Content {
  #onChange;

  /** @param {() => void} onChange Called after each change. */
  constructor(onChange) {
    this.#onChange = onChange;
    /** By id: `{id, name, items}`; an item is `{id, type, versions}`, a version `{id, text}` (null if not fetched). */
    this.vaults = new Map();
    /** What has just changed: the time by id. */
    this.touched = new Map();
  }

  /** The vault that an item is in. */
  vaultOf(item) {
    for (const vault of this.vaults.values()) if (vault.items.has(item)) return vault;
    return null;
  }

  /** Have what a snapshot says and nothing else. */
  replace(snapshot) {
    const kept = new Set(snapshot.vaults.map(({ id }) => id));
    for (const id of this.vaults.keys()) if (!kept.has(id)) this.vaults.delete(id);
    for (const vault of snapshot.vaults) this.replaceVault(vault, snapshot);
  }

  /** Have what a snapshot says of one vault. */
  replaceVault({ id, protectedData }, snapshot) {
    const items = new Map();
    for (const item of snapshot.items) {
      if (item.vaultId === id) items.set(item.id, { id: item.id, type: item.type, versions: new Map() });
    }
    for (const version of snapshot.versions) {
      items.get(version.itemId)?.versions.set(version.id, { id: version.id, text: version.protectedData });
    }
    this.vaults.set(id, { id, name: protectedData, items });
    this.#onChange();
  }

  /** Take an event's change over; one of the user is not about content. */
  apply(event, vaultId, data) {
    const vault = this.vaults.get(vaultId);
    if (event === "vault-create" && vault === undefined) {
      this.vaults.set(vaultId, { id: vaultId, name: data.protectedData, items: new Map() });
      this.#touch(vaultId);
    } else if (event === "vault-update" && vault !== undefined) {
      vault.name = data.protectedData;
      this.#touch(vaultId);
    } else if (event === "vault-delete") {
      this.vaults.delete(vaultId);
    } else if (event === "item-create" && vault !== undefined && !vault.items.has(data.id)) {
      vault.items.set(data.id, { id: data.id, type: data.type, versions: new Map() });
      this.#touch(data.id);
    } else if (event === "item-delete") {
      vault?.items.delete(data.id);
    } else if (event === "version-create") {
      const versions = vault?.items.get(data.itemId)?.versions;
      if (versions !== undefined && !versions.has(data.id)) versions.set(data.id, { id: data.id, text: null });
      this.#touch(data.itemId);
      this.#touch(data.id);
    } else if (event === "version-delete") {
      vault?.items.get(data.itemId)?.versions.delete(data.id);
      this.#touch(data.itemId);
    }
    this.#onChange();
  }

  /** Take over what is in a version, once it is known. */
  fill(vaultId, { id, itemId, protectedData }) {
    const version = this.vaults.get(vaultId)?.items.get(itemId)?.versions.get(id);
    if (version === undefined) return;
    version.text = protectedData;
    this.#onChange();
  }

  /** Know nothing. */
  clear() {
    this.vaults.clear();
    this.touched.clear();
    this.#onChange();
  }

  #touch(id) {
    this.touched.set(id, performance.now());
  }
}

/** What an item says: its newest version. */
export function textOf(item) {
  let newest = null;
  for (const version of item.versions.values()) newest = version;
  if (newest === null) return null;
  return newest.text ?? "…";
}
