"""The domain demo without a browser: uploads, labels, films and samples."""

import io
from datetime import datetime

import pytest
import torch
from PIL import Image

from course_lib.errors import CourseError
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, LabelExpert, freeze
from course_lib.translation import Pairs
from course_lib.translation.domains import DomainTranslator, label_flow
from course_lib.widgets.translations import DomainDemo, Edition, read_upload


def edition(domains, seed):
    torch.manual_seed(seed)
    autoencoder = freeze(GridAutoencoder(GridAutoencoderConfig(16, 4, (8, 16), (8, 16))))
    expert = LabelExpert({"style": domains, "hair": 2} if domains == 3 else {"style": domains})
    labels = torch.arange(40) % domains
    latents = torch.randn(40, autoencoder.latent_dim) + labels[:, None]
    joined = expert.join({"style": labels, "hair": labels % 2} if domains == 3 else {"style": labels})
    pairs = Pairs(joined, latents, torch.ones_like(latents))
    flow = label_flow(pairs, autoencoder, expert, gain=1.0, hidden_dim=8, blocks=2)
    with torch.no_grad():
        flow(latents, expert.cross(joined))
    classes = {"style": [f"style {k}" for k in range(domains)], "hair": ["red", "blue"]}
    translator = DomainTranslator(classes, flow, autoencoder, expert)
    return Edition(translator, torch.rand(4, 3, 16, 16) * 2 - 1, labels[:4])


@pytest.fixture
def demo(tmp_path):
    return DomainDemo({"three": edition(3, 0), "two": edition(2, 1)}, tmp_path)


def png(size=(30, 10), mode="RGB", colour="red", kind="PNG"):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


def test_an_upload_is_letterboxed_on_white():
    picture = read_upload(png(), 16)
    assert picture.shape == (3, 16, 16)
    assert (picture[:, 0] == 1).all() and (picture[:, -1] == 1).all()  # the bars
    assert picture[0, 8, 8] > 0.9 and picture[1, 8, 8] < -0.9
    assert (read_upload(png((8, 8), "RGBA", (0, 0, 0, 0)), 16) == 1).all()  # transparent is white
    assert read_upload(png((500, 300), kind="JPEG"), 16).shape == (3, 16, 16)


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:40]])
def test_a_bad_file_gives_one_clear_message(content):
    with pytest.raises(CourseError, match="upload a PNG"):
        read_upload(content, 16)


def test_translations_show_the_input_and_every_label(demo):
    shown = demo.translations("three", 1)
    assert shown.shape == (4, 3, 16, 16)
    assert torch.equal(shown[0], demo.editions["three"].examples[1])
    assert not torch.allclose(shown[1], shown[2])
    assert demo.translations("two", 0, upload=({"content": png()},), domain="style 1").shape[0] == 3


def test_attributes_change_what_is_shown(demo):
    plain, red = demo.translations("three", 1), demo.translations("three", 1, hair="red")
    assert torch.equal(plain[0], red[0]) and not torch.allclose(plain[1:], red[1:])
    assert torch.equal(demo.translations("two", 1), demo.translations("two", 1, hair="red")), "it has no hair"
    with pytest.raises(CourseError, match="never 'green'"):
        demo.translations("three", 1, hair="green")


def test_rendering_is_pure_and_the_seed_draws_again(demo):
    first = demo.render("three", 0, count=2, seed=0)
    assert first == demo.render("three", 0, count=2, seed=0)
    assert first != demo.render("three", 0, count=2, seed=1)
    four, one = (Image.open(io.BytesIO(demo.render("three", 0, count=c))) for c in (4, 1))
    assert four.height > one.height


def test_a_film_goes_from_reconstruction_to_translation(demo):
    path = demo.animate("three", 0, "style 2", frames=7)
    with Image.open(path) as film:
        assert film.is_animated and film.n_frames == 7 and film.size[0] >= 16
    with pytest.raises(CourseError, match="goes to a label"):
        demo.animate("three", 0, "style 9")
    with pytest.raises(CourseError, match="two frames"):
        demo.animate("three", 0, "style 2", frames=1)


def test_the_view_reacts(demo):
    box = demo.view()
    before = box.main.picture.value
    box.buttons["sample again"].click()
    assert box.main.picture.value != before
    box.edition.value = "two"
    assert list(box.target.options) == ["style 0", "style 1"] and box.main.message.value == ""
    box.target.value = "style 1"
    box.example.value = 0
    demo.animate = lambda **options: DomainDemo.animate(demo, frames=3, **options)
    box.buttons["animate translation"].click()
    assert box.film.value and "saved as two-" in box.note.value and 'download="two-' in box.link.value
    box.buttons["save picture"].click()
    assert (demo.folder / "two.png").read_bytes() == box.main.picture.value and 'download="two.png"' in box.link.value


def test_the_slider_of_examples_takes_over_from_an_upload_even_a_bad_one(demo):
    box = demo.view()
    box.upload.value = (
        {"content": b"no picture", "name": "x", "type": "", "size": 3, "last_modified": datetime.now()},
    )
    assert "upload a PNG" in box.main.message.value
    box.example.value = 1
    assert box.upload.value == () and box.main.message.value == ""
    assert box.main.picture.value == demo.render("three", 1, domain="style 0")
