"""Examples of every verb, printed by its help and in the reference of the docs.

A verb, as typed after `cstl-edge`, has commands and what each does. A test parses all of them.
"""

from __future__ import annotations

ENROLL = 'cstl-edge enroll Ada ada.mp4 --consent "signed 2026-11-30"'

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("cstl-edge demo", "See it work, without a camera."),
        (ENROLL, "Add a person from a recording of one walk."),
        ("cstl-edge identify street.mp4", "Say who walks in a recording."),
        ("cstl-edge live 0", "Say who walks past the first USB camera, as it happens."),
        ("cstl-edge serve site.yaml", "Run many cameras and a page."),
    ),
    "demo": (
        ("cstl-edge demo", "Write an annotated video to runs/demo and say who was recognised."),
        ("cstl-edge demo --seed 7 --out runs/seven", "The same with another street."),
        ("cstl-edge demo --serve", "Open the page of a service with four synthetic cameras."),
    ),
    "serve": (
        ("cstl-edge config init site.yaml", "Begin a site's file."),
        ("cstl-edge serve site.yaml", "Run its cameras and its page until Ctrl-C."),
        ("cstl-edge serve site.yaml --strict", "The same for a system that restarts it."),
    ),
    "config": (("cstl-edge config init", "Write site.yaml to begin with."),),
    "config check": (
        ("cstl-edge config check site.yaml", "List everything that is wrong with a file."),
        ("cstl-edge config check site.yaml --json", "The same for a program."),
    ),
    "config password": (
        ("cstl-edge config password", "Choose a password of the page; the line is printed."),
    ),
    "events": (
        ("cstl-edge events http://127.0.0.1:8765", "Print a service's newest events."),
        (
            "cstl-edge events http://127.0.0.1:8765 --follow --json",
            "The same for a program, with those to come.",
        ),
    ),
    "config init": (("cstl-edge config init home.yaml", "Write home.yaml to begin with."),),
    "config schema": (
        ("cstl-edge config schema", "Print it; in a file beside the site, editors know every key."),
    ),
    "doctor": (
        ("cstl-edge doctor", "See what is here, and how to get what is missing."),
        ("cstl-edge doctor --json", "The same for a program."),
    ),
    "live": (
        ("cstl-edge live 0", "Follow the first USB camera until Ctrl-C."),
        (
            "cstl-edge live rtsp://10.0.0.7/1 --rotate 180 --events events.jsonl",
            "Follow a camera that hangs upside down and keep its events.",
        ),
        (
            "cstl-edge live street.mp4 --annotate seen.mp4",
            "Write a video with boxes, names and silhouettes.",
        ),
    ),
    "enroll": (
        (ENROLL, "Add a person from a recording of one walk."),
        (
            f"{ENROLL.replace('ada.mp4', 'two.mp4')} --track 3",
            "Two people walk there: take the walker with number 3.",
        ),
        (
            f"{ENROLL.replace('ada.mp4', '0')} --seconds 60",
            "Let the person walk past the first USB camera, for a minute at most.",
        ),
    ),
    "embed": (
        ("cstl-edge embed recordings/ -o embeddings/", "Embed an archive, with all cores."),
        (
            "cstl-edge embed recordings/ -o embeddings/ --ray auto",
            "Embed it on the Ray cluster of this machine.",
        ),
    ),
    "identify": (
        ("cstl-edge identify street.mp4", "Say who walks in a recording."),
        (
            "cstl-edge identify street.mp4 --annotate seen.mp4 --json",
            "Write a video of it too, and print the answers for a program.",
        ),
        ("cstl-edge identify 0 --seconds 30", "Say who walks past a camera within 30 seconds."),
        (
            "cstl-edge identify street.mp4 --server http://127.0.0.1:8765",
            "Let a running service say it.",
        ),
    ),
    "gallery": (("cstl-edge gallery list", "See who is enrolled."),),
    "gallery list": (("cstl-edge gallery list --json", "List everybody, for a program."),),
    "gallery show": (
        ("cstl-edge gallery show Ada", "See what is kept about Ada."),
        ("cstl-edge gallery show", "See its cameras, its backups, and whether it is encrypted."),
    ),
    "gallery remove": (("cstl-edge gallery remove Ada", "Erase Ada."),),
    "gallery rename": (("cstl-edge gallery rename Ada Eve", "Call Ada Eve from now on."),),
    "gallery merge": (("cstl-edge gallery merge Ada Eve", "Eve is Ada: give Eve's walks to Ada."),),
    "gallery purge": (("cstl-edge gallery purge", "Erase whose retention has ended."),),
    "gallery export": (
        ("cstl-edge gallery export Ada -o ada.zip", "Write all that is kept about Ada."),
    ),
    "gallery backup": (("cstl-edge gallery backup people.bak", "Copy the gallery."),),
    "gallery restore": (("cstl-edge gallery restore people.bak", "Take the copy back."),),
    "gallery forget-backup": (
        ("cstl-edge gallery forget-backup people.bak", "The copy was deleted."),
    ),
    "gallery rekey": (
        (
            "cstl-edge gallery rekey --encrypt --new-key-file gallery.key",
            "Encrypt a gallery; the key file opens it.",
        ),
    ),
    "gallery migrate": (
        (
            "cstl-edge gallery migrate people.db 'postgresql://{PG}@db.local/people'",
            "Bring a gallery to a server; PG=USER:PASSWORD is in the environment or a file.",
        ),
    ),
    "gallery verify": (("cstl-edge gallery verify", "Look for damage."),),
    "models": (
        ("cstl-edge models", "See which models come with the package."),
        ("cstl-edge models cstl-walkers", "Read the card of one: its data, figures and limits."),
    ),
    "adapt": (
        (
            "cstl-edge adapt --silhouettes walks -o mine.safetensors",
            "Train the last layer on walks/PERSON/WALK/*.png; written only where it helps.",
        ),
    ),
    "export": (
        (
            "cstl-edge export weights.safetensors -o exported/mine --precision fp16",
            "Write ONNX graphs in float32 and FP16.",
        ),
    ),
    "build": (
        ("cstl-edge build exported/mine", "Build engines for the GPU of this machine."),
        (
            "cstl-edge build exported/mine --for rtx-sm89",
            "Build engines for RTX cards of compute capability 8.9, without one.",
        ),
    ),
    "plugin": (("cstl-edge plugin build", "Build it before `cstl-edge build`."),),
    "plugin build": (
        ("cstl-edge plugin build", "Compile for all GPUs that nvcc knows."),
        (
            "cstl-edge plugin build --architectures 87",
            "Compile for a Jetson Orin alone, which is quicker.",
        ),
    ),
    "import-released": (
        (
            "cstl-edge import-released CSTL-80000.ptm -o casia.safetensors",
            "Make weights of a published checkpoint.",
        ),
    ),
    "data": (
        (
            "cstl-edge data prepare CASIA-B --dataset casia-b --out data/casia-b",
            "Prepare CASIA-B for training and tests.",
        ),
    ),
    "data prepare": (
        (
            "cstl-edge data prepare CASIA-B --dataset casia-b --out data/casia-b",
            "Prepare CASIA-B at 64x44.",
        ),
        (
            "cstl-edge data prepare OUMVLP --dataset ou-mvlp --size 128x88 --out data/ou-128",
            "Prepare OU-MVLP at 128x88.",
        ),
    ),
    "data verify": (
        ("cstl-edge data verify data/casia-b", "Hash a prepared dataset again."),
        (
            "cstl-edge data verify CASIA-B --dataset casia-b",
            "List the bad files of a dataset before it is prepared.",
        ),
    ),
    "data stats": (("cstl-edge data stats data/casia-b", "Count people, sequences and views."),),
    "train": (
        (
            "cstl-edge train cstl-casia-b --data data/casia-b",
            "Train the paper's network on CASIA-B.",
        ),
        (
            "cstl-edge train cstl-casia-b --data data/casia-b --resume",
            "Go on after the run was stopped.",
        ),
        (
            "torchrun --nproc-per-node 4 -m cstl_edge train cstl-casia-b --data data/casia-b",
            "Train on four GPUs.",
        ),
    ),
    "eval": (
        ("cstl-edge eval", "Evaluate the shipped model on synthetic Walkers."),
        (
            "cstl-edge eval exported/mine --data data/casia-b --markdown",
            "Print the tables of CASIA-B in Markdown.",
        ),
        (
            "cstl-edge eval --protocol open-set --fpir 0.001,0.01",
            "Measure how often strangers are named and people are missed.",
        ),
    ),
    "reproduce": (
        ("cstl-edge reproduce table3 --budget small", "Train the rows of Table 3 on a CPU."),
        ("cstl-edge reproduce table3 --print", "Print what has been trained so far."),
    ),
    "figure": (("cstl-edge figure salient walk -o fig7.png", "Draw which frames gave what."),),
    "figure tsne": (
        (
            "cstl-edge figure tsne exported/mine --data data/casia-b -o fig6.png",
            "Lay the embeddings of ten people in a plane.",
        ),
    ),
    "figure salient": (
        (
            "cstl-edge figure salient silhouettes/ada -o fig7.png",
            "Draw a walk with the parts that each frame gave.",
        ),
    ),
    "bench": (
        ("cstl-edge bench --short", "Measure half a minute, for a first look."),
        ("cstl-edge bench --scenario single,multi", "Measure the live path alone."),
    ),
    "bench report": (
        ("cstl-edge bench report runs/bench/*.jsonl -o page.html", "Make a page of all runs."),
        (
            "cstl-edge bench report new.jsonl --against old.jsonl",
            "Compare two commits or two machines.",
        ),
    ),
}
