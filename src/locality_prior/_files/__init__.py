"""Files: written whole or not at all, by one process at a time, and read without trust in what they hold.

Nothing here imports torch, and no reader runs code that a file names.
"""

from locality_prior._files.locks import LOCK as LOCK
from locality_prior._files.locks import alone_in as alone_in
from locality_prior._files.names import StrPath as StrPath
from locality_prior._files.names import inside as inside
from locality_prior._files.names import slug as slug
from locality_prior._files.reading import DEEPEST as DEEPEST
from locality_prior._files.reading import digest as digest
from locality_prior._files.reading import read_csv as read_csv
from locality_prior._files.reading import read_json as read_json
from locality_prior._files.reading import read_text as read_text
from locality_prior._files.reading_npz import read_npz as read_npz
from locality_prior._files.reading_yaml import read_yaml as read_yaml
from locality_prior._files.writing import PARTIAL as PARTIAL
from locality_prior._files.writing import replacing as replacing
from locality_prior._files.writing import replacing_folder as replacing_folder
from locality_prior._files.writing import sweep as sweep
from locality_prior._files.writing import write_json as write_json
from locality_prior._files.writing import write_text as write_text
