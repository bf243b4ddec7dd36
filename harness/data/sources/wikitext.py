"""WikiText-2 and WikiText-103: good and featured articles of Wikipedia, word by word (Merity et al. 2016)."""

from __future__ import annotations

from harness.data.registry import SPLITS, Dataset, KnownText, SourceFile
from harness.data.text import WORDS_EVENT_SPACE

_FILES = {split: f"wiki.{split}.tokens" for split in SPLITS}

# The original server, s3.amazonaws.com, answers 403; one of the authors serves the same archives.
_SERVERS = ("https://wikitext.smerity.com", "https://s3.amazonaws.com/research.metamind.io/wikitext")

_ZIP2 = SourceFile(
    filename="wikitext-2-v1.zip", size=4_475_746,
    sha256="92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    md5="542ccefacc6c27f945fb54453812b3cd",
    urls=tuple(f"{server}/wikitext-2-v1.zip" for server in _SERVERS),
)  # fmt: skip

_ZIP103 = SourceFile(
    filename="wikitext-103-v1.zip", size=190_229_076,
    sha256="242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
    md5="9ddaacaf6af0710eda8c456decff7832",
    urls=tuple(f"{server}/wikitext-103-v1.zip" for server in _SERVERS),
)  # fmt: skip

# PyTorch's examples contain the three files of WikiText-2 under other names.
_EXAMPLES = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"


def _source(archive: SourceFile, split: str, size: int, **checksum: str) -> SourceFile:
    urls = (f"{_EXAMPLES}/{split}.txt",) if archive is _ZIP2 else ()
    member = f"{archive.filename.removesuffix('-v1.zip')}/{_FILES[split]}"
    return SourceFile(filename=_FILES[split], size=size, **checksum, urls=urls, archive=archive, member=member)


WIKITEXT_2 = Dataset(
    name="wikitext-2", title="WikiText-2", unit="word",
    event_space=WORDS_EVENT_SPACE,
    vocab_size=33_278, num_tokens={"train": 2_088_628, "valid": 217_646, "test": 245_569},
    sources=(
        _source(_ZIP2, "train", 10_797_148, sha256="9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"),
        _source(_ZIP2, "valid", 1_121_681, sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
        _source(_ZIP2, "test", 1_256_449, sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
    ),
    words=_FILES,
)  # fmt: skip

_TEXT_103 = KnownText(
    name="wikitext-103", title="WikiText-103",
    note="WikiText-103's tokens joined by one space, a newline after each line; rare words are `<unk>`, hyphens and "
    "separators are tokens such as @-@; a model of words has no probability for other words",
    sizes={"valid": (1_136_088, 1_134_457, 213_886), "test": (1_273_828, 1_272_084, 241_211)},
    first_words={"valid": "\n", "test": "\n"},
)  # fmt: skip

WIKITEXT_103 = Dataset(
    name="wikitext-103", title="WikiText-103", unit="word",
    event_space=WORDS_EVENT_SPACE,
    vocab_size=267_735, num_tokens={"train": 103_227_021, "valid": 217_646, "test": 245_569},
    sources=(
        # sha1 from GluonNLP's table of this corpus, whose other two rows agree with the files below.
        _source(_ZIP103, "train", 539_209_157, sha1="b7497e2dfe77e72cfef5e3dbc61b7b53712ac211"),
        _source(_ZIP103, "valid", 1_142_309, sha256="9aee9f52d6e77de6c7751fc5e7c44287db3ec0eaf15477098acc6b93c1c4250b"),
        _source(_ZIP103, "test", 1_281_077, sha256="56db52eb157b1ab5c89646eef70510c1eca6e12a3bfdb99f0d6b05b4eacb75b9"),
    ),
    text=_TEXT_103,
    words=_FILES,
)  # fmt: skip
