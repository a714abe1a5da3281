"""Words around names: which names are words of the language as well, and which words speak of a person (data)."""

_COMMON = """
    abbot able ada alexa amber angel apache april archer art arts ash athena august austin autumn bach bailey baker
    ball banks barber basil bates bay bear bell benz best bill bird bishop bit black bliss bloom blue bob boeing bolt
    bond booker booth bose bowman bradley brand braun bridge bright brook brooks brown buck bud burger burns bush
    butler cable cadbury campbell candy care carol carpenter carrier carter case cash cassandra chad chan chance
    chapel charity charm chase chelsea cherry chester chevy china chip christian church claude clay cliff close cloud
    coach code coin cole colt cone cook cooper cortana cotton court crane crew crisp cross cruz crystal cuba curry
    curt cyan daisy dale dallas dart dash data dawn day deacon dean dell denver diamond dick dodge dollar don door dot
    dove drake draper drew dubai duke duncan dyson earl early east ebony eden edge element ember english eve ever
    fable fair faith falcon fern field fields fig finch fish fisher fleet flint flora florence flow flower ford forest
    foster fox foxy france francs frank french frost gage galaxy gale gallo gap garden gates gem gene genesis georgia
    german gift gill ginger glad glass glen globe gold good grace grand granger grant graves gray green grey grove
    gull gunner guy hale hall ham harbor harmony harp harper harry hart hawk hawthorn hay hayes hazel head heart heath
    heather heinz helm helper hero hershey hill hills hilton holiday holland holly home honda honey hood hook hope
    horn host house houston hub hudson huff hunt hunter ice imagine india ink innocent ireland iris iron israel ivory
    ivy jack jade jasmine jasper java jay jazz jean jenkins jersey jet jets jewel jimmy job joint joke jordan journey
    joy jules julia june juniper justice kay kenya key keys king kit kitty knight knot kraft lake lamb lance land lane
    lark laurel lauren law leaf lee legend lemon levi liberty lily lincoln link list little lock london long loop lord
    lotus love low loyal luck lucky luna lynx lyric madison mae magic main major mallory manor map maple marble march
    mark marks mars marsh marshal marshall martin mason mattel max may mead meadow melody mercedes mercury mercy merit
    micro mike milan miles mill miller mills mint mist misty monday monk moody moon moral more morgan moses moss
    mountain myth nation nelson neo nest nestle net nick night nintendo noble noel noon north nova oak oasis ocean odd
    office old olive onyx opal oracle orange otis pace pack paddy page paige palm paris park parker parks pascal pat
    patch patience peace peach pearl penny pepper piano pierce pike pilot pin pine pink piper plum poet pole polo pond
    poole pope poppy porsche porter post potter power powers precious presley price pride priest prince princess prior
    prize prudence python queen quick quill quinn rae rain rally ranger rapid raven ray reach read red reed reef regal
    remedy render rhodes rice rich ridge rio river rivers rob robin rock rocky rod roman rome root rose rosemary ross
    rover rowan rows royal ruby rush russell rust rusty sage sailor sales salt sandy savage savannah sawyer scarlet
    scott scout script seal sears season sell serenity shade sharp shell shepherd sherry shire shore short siemens
    sierra silver singer siri skill skip sky slack sleet sloan small smart smith snow solo song sonny south spark
    sparrow spear speed spencer spring spruce stack stacks star stark steel step sterling stone storm street strong
    sue sugar summer sun sunday sunny support suzuki swan sweet swift sydney tab tailor tanner tate taylor tea teal
    team tee temple terry tesla test thorn tide tiger tim timber time token tom topaz tori tower town toyota trace
    tracy travis treasure trinity trip true tucker tulip turner tyler tyson ula union unity urban vale valentine van
    vance velvet venus vera verity verona victor victory vienna vine viola violet virginia vision wade waiter walker
    wall wallace ward warden waters watt wave way weaver web webb wells wendy west wheat white wilder will willow
    winner winston winter wisdom wise wolf wood woodland woods worth wren wright yellow york young zed zen zone
"""
COMMON = frozenset(_COMMON.split())
"""Names that are English words, months, places or products as well, in small letters."""

_PARTICLES = """
    al bin bint da das de del della den der di do dos du el ibn la le los mc o ten ter van von y zu zum zur
"""
PARTICLES = frozenset(_PARTICLES.split())
"""What stands inside a name and is none."""

_TITLES = """
    dr frau herr jr md mr mrs ms phd prof sir sr
"""
TITLES = frozenset(_TITLES.split())
"""What stands before a name and is none."""

_DAYS = """
    april august june march may monday sunday
"""
DAYS = frozenset(_DAYS.split())
"""Capitalised words of the calendar that are names too."""

_BEFORE = """
    ask asked asking boss called cc colleague contact contacted coworker dear dr hello hey hi manager meeting met miss
    mr mrs ms named ping pinged teammate tell thank thanks told
"""
BEFORE = frozenset(_BEFORE.split())
"""After these comes somebody."""

_NEAR = """
    and by call email emailed for from help invite invited know knows let message messaged saw see to with
"""
NEAR = frozenset(_NEAR.split())
"""After these may come somebody: a word that starts no sentence has to be capitalised as well."""

_AFTERWARDS = """
    approved asked can confirmed could did does doesn't had has is isn't joined knows left may mentioned replied
    reported said says should suggested thinks told wanted wants was wasn't will worked works would writes wrote
"""
AFTERWARDS = frozenset(_AFTERWARDS.split())
"""Somebody does or is this."""
