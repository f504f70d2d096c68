"""One end of a transfer by libtorrent: seed FILE | fetch TORRENT DIR PORT…, with "tuned" behind for larger queues.

Prints the port (seed, after the path of the torrent) or what the transfer took (fetch), then what the process has used for each
line on stdin.
"""

import json
import os
import resource
import sys
import time

import libtorrent as lt

tuned = sys.argv[-1] == "tuned"
args = sys.argv[1:-1] if tuned else sys.argv[1:]
begun = time.monotonic()

settings = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": 0,
}
if tuned:
    settings.update({
        "max_out_request_queue": 4000,
        "max_allowed_in_request_queue": 8000,
        "send_buffer_watermark": 8 << 20,
        "send_buffer_low_watermark": 1 << 20,
        "send_buffer_watermark_factor": 200,
        "send_socket_buffer_size": 4 << 20,
        "recv_socket_buffer_size": 4 << 20,
        "max_queued_disk_bytes": 64 << 20,
        "aio_threads": 2,
        "hashing_threads": 2,
    })


def usage():
    r = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": r.ru_utime + r.ru_stime, "peak": r.ru_maxrss << 10}), flush=True)


session = lt.session(settings)
if args[0] == "seed":
    path = args[1]
    torrent = path + ".torrent"
    if not os.path.exists(torrent):
        files = lt.file_storage()
        lt.add_files(files, path)
        made = lt.create_torrent(files, 1 << 20, lt.create_torrent.v1_only)
        lt.set_piece_hashes(made, os.path.dirname(path))
        with open(torrent, "wb") as f:
            f.write(lt.bencode(made.generate()))
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = os.path.dirname(path)
    params.flags = lt.torrent_flags.seed_mode | lt.torrent_flags.upload_mode
    handle = session.add_torrent(params)
    print(torrent, flush=True)
    print(session.listen_port(), flush=True)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(args[1])
    params.save_path = args[2]
    handle = session.add_torrent(params)
    for port in args[3:]:
        handle.connect_peer(("127.0.0.1", int(port)))
    while not handle.status().is_seeding:
        time.sleep(0.005)
    print(json.dumps({"seconds": time.monotonic() - begun, "bytes": handle.status().total_done}), flush=True)

for _ in sys.stdin:
    usage()
