# SPDX-License-Identifier: Apache-2.0
"""Fine-tune an exported bundle where the data lie: python scripts/federate.py BUNDLE --out DIR --site a=FOLDER --site b=FOLDER.

Federated averaging by NVFLARE; docs/federated.md has the steps. Needs the extra `federated`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

try:
    from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe import SimEnv, set_per_site_config
except ModuleNotFoundError as missing:
    raise SystemExit(f"error: {missing.name} is not installed; `pip install -e '.[federated]'` installs NVFLARE.") from missing

HERE = Path(__file__).resolve().parent


def federation(bundle: Path, sites: Mapping[str, str], *, rounds: int, epochs: int) -> FedAvgRecipe:
    """The job: `rounds` times every site trains `epochs` epochs, then weights are averaged by the steps that each took.

    Decision: the server holds tensors only. It loads model.pt as such and never builds the network, so that it runs no code of
    the bundle. NVFLARE takes a relative script into the job; call this, and what uses it, from this script's folder.

    Raises:
        FileNotFoundError, ValueError: the bundle is none, or a site is wrong; names it.
    """
    weights = bundle / "models" / "model.pt"
    if not weights.is_file():
        raise FileNotFoundError(f"{bundle} is no exported bundle (no models/model.pt); scripts/export_bundle.py writes one.")
    if len(sites) < 2:
        raise ValueError(f"--site: {len(sites)} given; a federation has at least two, each as --site NAME=FOLDER.")
    spaced = [folder for folder in sites.values() if folder.split() != [folder]]
    if spaced:
        raise ValueError(f"--site: the folder {spaced[0]!r} is empty or has a space, which NVFLARE cannot hand on; rename it.")
    recipe = FedAvgRecipe(
        name=bundle.name,
        model_persistor=PTFileModelPersistor(source_ckpt_file_full_name=weights.name, load_device="cpu"),
        min_clients=len(sites),
        num_rounds=rounds,
        train_script="federated_client.py",
        key_metric="score",
    )
    recipe.add_server_file(str(weights))
    commands = {
        name: f"--bundle {folder}/{bundle.name} --data {folder}/data.json --epochs {epochs}" for name, folder in sites.items()
    }
    set_per_site_config(recipe, {name: {"train_args": command} for name, command in commands.items()})
    return recipe


def simulate(bundle: Path, sites: Mapping[str, str], out: Path, *, rounds: int, epochs: int) -> Path:
    """Run the job on this machine, a process a site; returns the global model, a state dict like the bundle's model.pt."""
    bundle, out = bundle.resolve(), out.resolve()
    if out.exists():
        raise FileExistsError(f"{out} exists; give --out a new folder, or remove it first.")
    with contextlib.chdir(HERE):
        recipe = federation(bundle, sites, rounds=rounds, epochs=epochs)
        recipe.execute(SimEnv(clients=list(sites), workspace_root=str(out)))
    found = list(out.rglob("FL_global_model.pt"))
    if not found:
        raise RuntimeError(f"the simulation left no global model; read the logs of the sites in {out / bundle.name}.")
    before = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    after = torch.load(found[0], map_location="cpu", weights_only=True)["model"]
    torch.save({key: after[key].reshape(value.shape).to(value.dtype) for key, value in before.items()}, out / "model.pt")
    return out / "model.pt"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune an exported bundle at several sites by federated averaging.")
    parser.add_argument("bundle", type=Path, help="the exported bundle")
    parser.add_argument("--site", action="append", default=[], metavar="NAME=FOLDER", help="holds data.json and the bundle")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1, help="of a round, at each site")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--job", action="store_true", help="write the job for `nvflare job submit` instead of simulating it")
    given = parser.parse_args()
    named = [site.partition("=") for site in given.site]
    sites = {name: folder for name, _, folder in named}
    try:
        if len(sites) < len(named):
            raise ValueError(f"--site: {', '.join(given.site)} name a site twice; give each a name of its own.")
        if given.job:
            out, bundle = given.out.resolve(), given.bundle.resolve()
            with contextlib.chdir(HERE):
                federation(bundle, sites, rounds=given.rounds, epochs=given.epochs).export(str(out))
            print(f"job: {out / bundle.name}")
        else:
            places = {name: str(Path(folder).resolve()) if folder else "" for name, folder in sites.items()}
            print(f"global model: {simulate(given.bundle, places, given.out, rounds=given.rounds, epochs=given.epochs)}")
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
